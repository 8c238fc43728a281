package replica_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/testkit/storetest"
)

// TestB08_FreshReplicaWaitsForTheFleet: one that holds nothing does not take a store that was just
// restored, or taken as it is, for good: a healing is to bring back the revocations that the others have
// seen. It loads at once when that has come, however late, and does without only when nobody heals for a
// minute. No clock but its own counts: the operator's may be wrong.
func TestB08_FreshReplicaWaitsForTheFleet(t *testing.T) {
	for _, after := range []time.Duration{time.Second, 50 * time.Second} {
		simulate(t, 1, func(w *world) {
			w.fill(0, 3)
			w.store.Adopt(0)
			w.pass(10 * time.Hour)
			w.start()
			w.pass(after)
			if _, _, loaded := w.r.State(0); loaded {
				t.Error("it is loaded while the fleet may know better")
			}
			w.store.NewEpoch(0)
			began := time.Now()
			w.mustLoad()
			if took := time.Since(began); took > time.Second {
				t.Errorf("it was loaded after %s", took)
			}
			if _, unhealed := w.r.Unhealed(0); unhealed {
				t.Error("it takes the epoch for one that is not healed")
			}
		})
	}
	simulate(t, 1, func(w *world) {
		w.fill(0, 3)
		w.store.Adopt(0)
		w.start()
		w.pass(59 * time.Second)
		if _, _, loaded := w.r.State(0); loaded {
			t.Error("it is loaded while an authority may heal the store")
		}
		w.pass(2 * time.Second)
		w.mustLoad()
		if epoch, unhealed := w.r.Unhealed(0); !unhealed || epoch != 2 {
			t.Error("it does not know that the epoch is not healed")
		}
	})
}

// TestRestoredStoreIsFollowedWhenItIsHealed: a replica that runs keeps what it knows, as long as that
// takes, and then follows. That of whoever heals follows at once.
func TestRestoredStoreIsFollowedWhenItIsHealed(t *testing.T) {
	for _, heals := range []bool{false, true} {
		simulate(t, 1, func(w *world) {
			app := w.fill(0, 3)[1]
			w.prepare()
			if heals {
				w.r.Heals()
			}
			w.run()
			w.mustLoad()
			before := w.store.Save()
			w.commit(app, storetest.Enforce(7))
			w.pass(2 * longestPoll)
			w.store.RollBack(before)
			w.store.Adopt(0)
			enforced := func() bool { return w.entry(app).Policy.Enforcement().Scopes.Has(7) }
			w.pass(2 * time.Hour)
			if enforced() == heals {
				t.Errorf("heals %t: enforced %t\n%s", heals, enforced(), w.log)
			}
			if _, unhealed := w.r.Unhealed(0); unhealed != heals {
				t.Errorf("heals %t: unhealed %t", heals, unhealed)
			}
			w.store.NewEpoch(0)
			w.pass(2 * enough)
			w.mustEqualStore()
		})
	}
}

// TestSnapshotDecidesWhileTheStoreIsNotHealed: a replica that was given its data decides from it, as a
// running one does.
func TestSnapshotDecidesWhileTheStoreIsNotHealed(t *testing.T) {
	simulate(t, 1, func(w *world) {
		app := w.fill(0, 3)[1]
		w.startLoaded()
		before := w.store.Save()
		w.commit(app, storetest.Enforce(7))
		w.pass(2 * longestPoll)
		all := w.keep()
		w.stop()
		w.store.RollBack(before)
		w.store.Adopt(0)
		w.startFrom(all)
		w.pass(2 * longestPoll)
		if !w.r.Loaded() || !w.entry(app).Policy.Enforcement().Scopes.Has(7) {
			t.Errorf("loaded: %t\n%s", w.r.Loaded(), w.log)
		}
		w.store.NewEpoch(0)
		w.pass(2 * enough)
		w.mustEqualStore()
	})
}

// TestB20_AppThatTheStoreLostIsNotOneWithoutAPolicy: nothing is decided about it until it is there again.
func TestB20_AppThatTheStoreLostIsNotOneWithoutAPolicy(t *testing.T) {
	simulate(t, 1, func(w *world) {
		w.fill(0, 3)
		app, deleted, other := w.store.App(0, 20), w.store.App(0, 21), w.store.App(0, 22)
		w.startLoaded()
		before := w.store.Save()
		w.commit(app, storetest.AddToken("leaked"), storetest.Enforce(1), storetest.SetState("leaked", policy.Revoked))
		w.commit(deleted, storetest.AddToken("x"), storetest.SetState("x", policy.Revoked), func(d *record.Document) { d.Deleted = true })
		w.pass(2 * longestPoll)
		w.store.RollBack(before)
		w.store.NewEpoch(0)
		w.pass(enough)
		w.mustEqualStore()
		for id, want := range map[string]bool{app: true, deleted: false, other: false} {
			if w.entry(id) != nil || w.r.Table().Find(id).Missing != want {
				t.Errorf("%s: missing %t, want %t; entry %+v", id, w.r.Table().Find(id).Missing, want, w.entry(id))
			}
		}
		all := w.keep()
		w.stop()
		w.startFrom(all)
		w.pass(enough)
		if !w.r.Table().Find(app).Missing {
			t.Error("it is forgotten by what is kept")
		}
		w.store.NewEpoch(0)
		w.pass(enough)
		if !w.r.Table().Find(app).Missing {
			t.Error("it is forgotten in the next epoch")
		}
		if w.r.Table().Find(deleted).Missing {
			t.Error("a deleted app is missing in the next epoch")
		}
		w.commit(app, storetest.AddToken("new"))
		if w.r.Table().Find(app).Missing || w.r.Stats().Missing != 0 {
			t.Error("it is missing though it was made again")
		}
		w.pass(enough)
		w.store.NewEpoch(0)
		w.pass(enough)
		w.mustEqualStore()
		if w.r.Table().Find(app).Missing {
			t.Error("it is missing though it is there again")
		}
	})
}

// TestB08_RevocationSeenStaysInForce, whatever takes it back: a hint that the store lost, a new epoch on a
// store that lost it, an app that is gone and comes again, and later changes of it.
func TestB08_RevocationSeenStaysInForce(t *testing.T) {
	revoke := storetest.SetState("second", policy.Revoked)
	for name, lose := range map[string]func(w *world, app string, before storetest.State){
		"hint that the store lost": func(w *world, app string, _ storetest.State) { w.phantom(app, revoke) },
		"new epoch on a store that lost it": func(w *world, app string, before storetest.State) {
			w.commit(app, revoke)
			w.pass(2 * longestPoll)
			w.store.RollBack(before)
			w.store.NewEpoch(0)
		},
		"new epoch on a store where both sides went on": func(w *world, app string, before storetest.State) {
			w.commit(app, revoke)
			w.pass(2 * longestPoll)
			w.store.RollBack(before)
			w.store.Commit(app, storetest.AddToken("other side"))
			w.store.NewEpoch(0)
		},
		"new epoch on a store where the token has another id": func(w *world, app string, before storetest.State) {
			w.commit(app, revoke)
			w.pass(2 * longestPoll)
			w.store.RollBack(before)
			again := storetest.Token("again", "second")
			w.store.Commit(app, storetest.Remove("second"), storetest.Add(again))
			w.store.NewEpoch(0)
		},
		"change of the authority that takes it back": func(w *world, app string, _ storetest.State) {
			w.commit(app, revoke)
			w.commit(app, storetest.SetState("second", policy.Active))
		},
		"change that removes the token": func(w *world, app string, _ storetest.State) {
			w.commit(app, revoke)
			w.commit(app, storetest.Remove("second"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, 1, func(w *world) {
				app := w.fill(0, 3)[1]
				w.startLoaded()
				before := w.store.Save()
				lose(w, app, before)
				must := func(when string) {
					w.Helper()
					digest := storetest.Token("", "second").Digest
					entry := w.entry(app)
					if token := entry.Policy.FindDigest(digest); token == nil || token.State != policy.Revoked {
						w.Errorf("%s the token is %+v\n%s", when, token, w.log)
					}
					if kept := w.r.Sticky(0); len(kept) != 1 || kept[0].AppID != app || kept[0].Token.Digest != digest || !entry.Kept() {
						w.Errorf("%s held against the store: %+v", when, kept)
					}
					if !w.r.KeptRevoked(0, app, digest) || w.r.Stats().Sticky != 1 {
						w.Errorf("%s it is not counted", when)
					}
				}
				if state := w.tokens(app)["second"]; state == policy.Active {
					w.Error("it is not revoked at once")
				}
				w.pass(enough)
				w.mustEqualStore()
				must("after some time")
				w.commit(app, storetest.AddToken("later"))
				must("after another change")
				w.store.NewEpoch(0)
				w.pass(enough)
				w.mustEqualStore()
				must("in the next epoch")

				// When the store has it, nothing is held against it any more.
				document := w.store.Document(app)
				id := "second"
				if slices.ContainsFunc(document.Tokens, func(t record.Token) bool { return t.ID == "again" }) {
					id = "again"
				}
				if slices.ContainsFunc(document.Tokens, func(t record.Token) bool { return t.ID == id }) {
					w.commit(app, storetest.SetState(id, policy.Revoked))
				} else {
					w.commit(app, storetest.AddToken("second"), revoke)
				}
				if entry := w.entry(app); entry.Kept() || len(w.r.Sticky(0)) != 0 {
					w.Errorf("still held: %+v", w.r.Sticky(0))
				}
			})
		})
	}
}

// TestB08_RememberedDigestStaysInForce although the store has gone back to before the token was revoked, or
// has forgotten it.
func TestB08_RememberedDigestStaysInForce(t *testing.T) {
	for name, lost := range map[string]storetest.Change{
		"active again": storetest.Enforce(sessions), "gone": storetest.Remove("second"),
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, 1, func(w *world) {
				app := w.fill(0, 3)[1]
				w.startLoaded()
				before := w.store.Save()
				token := storetest.Token("", "second").Token
				remember := func(d *record.Document) { d.Memory = d.Memory.With(token) }
				w.commit(app, storetest.SetState("second", policy.Revoked))
				w.commit(app, storetest.Remove("second"), remember)
				if p := w.entry(app).Policy; p.FindDigest(token.Digest) != nil || !p.Memory().Has(&token.Digest) || len(w.r.Sticky(0)) != 0 {
					w.Fatalf("the change remembers %d digests, and %v is held", p.Memory().Len(), w.r.Sticky(0))
				}
				w.pass(2 * longestPoll)
				w.store.RollBack(before)
				w.store.Commit(app, lost)
				w.store.NewEpoch(0)
				w.pass(enough)
				w.mustEqualStore()
				if p := w.entry(app).Policy; !p.Revokes(&policy.Token{ID: "any", Digest: token.Digest}) {
					w.Errorf("it is not revoked: %+v", p.FindDigest(token.Digest))
				}
				if kept := w.r.Sticky(0); len(kept) != 1 || kept[0].Token.ID != "" || !w.r.KeptRevoked(0, app, token.Digest) {
					w.Errorf("held against the store: %+v", kept)
				}
				w.commit(app, storetest.Remove("second"), remember)
				if kept := w.r.Sticky(0); len(kept) != 0 {
					w.Errorf("still held: %+v", kept)
				}
			})
		})
	}
}

// TestB20_AppOfALostHintIsMissing: what a failover took back of an app's making does not open it, wherever
// the store has got to meanwhile.
func TestB20_AppOfALostHintIsMissing(t *testing.T) {
	for others := range 6 {
		simulate(t, 1, func(w *world) {
			apps := w.fill(0, 3)
			app := w.store.App(0, 20)
			w.startLoaded()
			w.pass(2 * longestPoll)
			before := w.store.Save()
			w.faults(storetest.Faults{Hint: deaf, Down: errRefused})
			made := w.store.Commit(app, storetest.AddToken("a"))
			enforced := w.store.Commit(app, storetest.Enforce(1))
			w.r.Offer(0, made.Link)
			w.r.Offer(0, enforced.Link)
			w.store.RollBack(before)
			for i := range others {
				w.store.Commit(apps[2], storetest.AddToken(fmt.Sprint("other", i)))
			}
			w.faults(storetest.Faults{Hint: deaf})
			w.pass(enough)
			w.mustEqualStore()
			if view := w.r.Table().Find(app); !view.Missing {
				t.Errorf("after %d other changes: %+v\n%s", others, view, w.log)
			}
		})
	}
}

// TestB08_RevocationIsRememberedForAnAppThatTheStoreLost, until it comes again.
func TestB08_RevocationIsRememberedForAnAppThatTheStoreLost(t *testing.T) {
	simulate(t, 1, func(w *world) {
		w.fill(0, 3)
		app := w.store.App(0, 20)
		w.startLoaded()
		before := w.store.Save()
		w.commit(app, storetest.AddToken("leaked"), storetest.SetState("leaked", policy.Revoked))
		w.pass(2 * longestPoll)
		w.store.RollBack(before)
		w.store.NewEpoch(0)
		w.pass(enough)
		w.mustEqualStore()
		// There is nothing that a healing could write it to, so that none is asked for.
		if w.entry(app) != nil || w.r.Stats().Sticky != 1 || len(w.r.Sticky(0)) != 0 {
			w.Fatalf("the app is %+v, %d are held, to be written back are %+v", w.entry(app), w.r.Stats().Sticky, w.r.Sticky(0))
		}
		w.commit(app, storetest.AddToken("leaked"))
		if state := w.tokens(app)["leaked"]; state != policy.Revoked {
			w.Errorf("it came again in state %d", state)
		}
		w.mustEqualStore()
	})
}

// TestChangesThatTheStoreLostAreHeldUntilTheyAreSettled: hints it took back, and what lay behind a fork.
// They are what an authority heals the store from.
func TestChangesThatTheStoreLostAreHeldUntilTheyAreSettled(t *testing.T) {
	for name, lose := range map[string]func(w *world, app string, before storetest.State) []record.Tag{
		"hints": func(w *world, app string, _ storetest.State) []record.Tag {
			return []record.Tag{w.phantom(app, storetest.AddToken("lost")).Cursor.Tag}
		},
		"a new epoch": func(w *world, app string, before storetest.State) []record.Tag {
			one, two := w.commit(app, storetest.AddToken("a")), w.commit(app, storetest.AddToken("b"))
			w.pass(2 * longestPoll)
			w.store.RollBack(before)
			w.store.Commit(app, storetest.AddToken("other side"))
			w.store.NewEpoch(0)
			return []record.Tag{one.Cursor.Tag, two.Cursor.Tag}
		},
		"a new epoch that comes before a hint was confirmed": func(w *world, app string, before storetest.State) []record.Tag {
			one := w.commit(app, storetest.AddToken("a"))
			w.pass(2 * longestPoll)
			two := w.phantom(app, storetest.AddToken("b"))
			w.store.RollBack(before)
			w.store.NewEpoch(0)
			return []record.Tag{one.Cursor.Tag, two.Cursor.Tag}
		},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, 1, func(w *world) {
				app := w.fill(0, 3)[1]
				w.startLoaded()
				before := w.store.Save()
				tags := lose(w, app, before)
				w.pass(enough)
				w.mustEqualStore()
				if got := w.r.Orphans(0); !slices.Equal(got, tags) || !w.r.Forked(0) || w.r.Stats().Orphans != len(tags) {
					w.Fatalf("held are %x, want %x", got, tags)
				}
				w.mustBeFresh(0)
				var found int
				for _, raw := range w.r.Links(0) {
					if link, err := w.r.Codec().OpenLink(0, raw); err == nil && slices.Contains(tags, link.Tag) {
						found++
					}
				}
				if found != len(tags) {
					w.Errorf("%d of %d lost links are handed out", found, len(tags))
				}
				// An epoch that says nothing of them leaves them, also across changes.
				w.store.NewEpoch(0)
				w.commit(app, storetest.AddToken("later"))
				w.pass(enough)
				if got := w.r.Orphans(0); !slices.Equal(got, tags) {
					w.Errorf("held are %x, want %x", got, tags)
				}
				w.store.NewEpoch(0, tags[:1]...)
				w.pass(enough)
				if got := w.r.Orphans(0); !slices.Equal(got, tags[1:]) {
					w.Errorf("after one was settled: %x", got)
				}
				w.store.NewEpoch(0, tags...)
				w.pass(enough)
				if got := w.r.Orphans(0); len(got) != 0 || w.r.Forked(0) {
					w.Errorf("after all were settled: %x", got)
				}
				w.mustEqualStore()
			})
		})
	}
}

// TestNothingIsHeldOnToThatTheStoreHas: a new epoch on a store that lost nothing, and late readers of it.
func TestNothingIsHeldOnToThatTheStoreHas(t *testing.T) {
	simulate(t, 1, func(w *world) {
		app := w.fill(0, 3)[1]
		w.startLoaded()
		w.commit(app, storetest.AddToken("a"))
		w.faults(storetest.Faults{Hint: deaf})
		w.store.Commit(app, storetest.AddToken("b"))
		w.store.NewEpoch(0)
		w.pass(enough)
		w.mustEqualStore()
		if held := w.r.Orphans(0); len(held) != 0 || w.r.Forked(0) {
			w.Errorf("held are %x\n%s", held, w.log)
		}
	})
}

// TestB25_PositionOfAnEarlierEpoch is reached when it lies before the epoch's end, and lost when it lies
// behind, or when nobody knows where that epoch ended.
func TestB25_PositionOfAnEarlierEpoch(t *testing.T) {
	simulate(t, 1, func(w *world) {
		app := w.fill(0, 3)[1]
		w.startLoaded()
		inside := w.commit(app, storetest.AddToken("inside")).Cursor
		kept := w.commit(app, storetest.AddToken("kept")).Cursor
		w.pass(2 * longestPoll)
		before := w.store.Save()
		lost := w.commit(app, storetest.AddToken("lost")).Cursor
		w.pass(2 * longestPoll)
		w.store.RollBack(before)
		next := w.store.NewEpoch(0)
		w.pass(enough)
		insideOther, other := inside, kept
		insideOther.Tag[0]++
		other.Tag[0]++
		ahead := record.Cursor{Epoch: 9, Revision: 1}
		for i, tt := range []struct {
			target record.Cursor
			want   error
		}{
			{kept, nil},
			{inside, nil},
			{insideOther, replica.ErrLost},
			{next, nil},
			{other, replica.ErrLost},
			{lost, replica.ErrLost},
			{ahead, replica.ErrNotReached},
		} {
			if _, err := w.reach(tt.target, time.Second); !errors.Is(err, tt.want) {
				w.Errorf("%d: %v: %v, want %v", i, tt.target, err, tt.want)
			}
		}
		for range record.MaxForks {
			w.store.NewEpoch(0)
		}
		w.pass(enough)
		if _, err := w.reach(kept, time.Second); !errors.Is(err, replica.ErrLost) {
			w.Errorf("an epoch that nobody remembers: %v", err)
		}
	})
}

// TestB25_PastOfBeforeTheStartIsKnownToo: the history is read from the log, so that a lost change is told
// from one that was made, and can be brought back.
func TestB25_PastOfBeforeTheStartIsKnownToo(t *testing.T) {
	simulate(t, 1, func(w *world) {
		app := w.fill(0, 3)[1]
		var made []record.Cursor
		for range 40 {
			made = append(made, w.store.Commit(app, storetest.SetState("second", policy.Disabled)).Cursor)
		}
		w.startLoaded()
		w.pass(longestPoll)
		for _, at := range made {
			other := at
			other.Tag[3]++
			if _, err := w.reach(at, time.Second); err != nil {
				w.Errorf("%v: %v", at, err)
			}
			if _, err := w.reach(other, time.Second); !errors.Is(err, replica.ErrLost) {
				w.Errorf("another change in place of %v: %v", at, err)
			}
		}
		if n := len(w.r.Links(0)); n < len(made) {
			w.Errorf("%d links", n)
		}
		w.commit(app, storetest.AddToken("later"))
		if _, err := w.reach(made[0], time.Second); err != nil {
			w.Error(err)
		}
	})
}

// TestB20_StoreBelowTheFloorIsAFork: an old copy of everything, put in place of the store, is not believed
// by a replica that was told how far the fleet is.
func TestB20_StoreBelowTheFloorIsAFork(t *testing.T) {
	for name, when := range map[string]struct{ before, told bool }{
		"told before it starts":   {true, true},
		"told when it has loaded": {false, true},
		"not told":                {true, false},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, 2, func(w *world) {
				app := w.fill(0, 3)[1]
				w.fill(1, 2)
				old := w.store.Save()
				w.store.Commit(app, storetest.SetState("second", policy.Revoked))
				now := w.store.Save()
				at := record.Position{StoreID: w.store.Codec().StoreID(), Partition: 0, Cursor: w.store.Head(0).Cursor}
				foreign := at
				foreign.StoreID, foreign.Partition, foreign.Revision = "another", 1, 99
				w.store.RollBack(old)
				floor := func() {
					if when.told {
						w.r.SetFloor([]record.Position{at, foreign, {StoreID: at.StoreID, Partition: 7}})
					}
				}
				w.prepare()
				if when.before {
					floor()
				}
				w.run()
				w.pass(2 * longestPoll)
				if !when.before {
					floor()
				}
				w.pass(enough)
				loaded := w.r.Table().Partition(0) != nil
				age := w.age(0)
				switch {
				case !when.told && (!loaded || age > 2*longestPoll):
					w.Error("a store is refused without a reason")
				case when.told && when.before && loaded:
					w.Error("the old copy is believed")
				case when.told && !when.before && (!w.r.Forked(0) || age < enough-longestPoll):
					w.Errorf("the old copy passes for fresh: age %v\n%s", age, w.log)
				}
				w.mustBeFresh(1)
				if when.told {
					w.store.RollBack(now)
					w.pass(enough)
					w.mustEqualStore()
					w.mustBeFresh(0)
				}
			})
		})
	}
}

// TestChangeThatADeposedMasterTookIsHeld: whoever made it was told that it was made, so it must not be
// forgotten because this replica follows another master by now.
func TestChangeThatADeposedMasterTookIsHeld(t *testing.T) {
	for name, follow := range map[string]func(w *world, app string){
		"of an epoch that is over":         func(w *world, _ string) { w.store.NewEpoch(0) },
		"in whose place stands another":    func(w *world, app string) { w.store.Commit(app, storetest.AddToken("other")) },
		"in whose place comes another yet": func(*world, string) {},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, 1, func(w *world) {
				app := w.fill(0, 3)[1]
				w.startLoaded()
				lost := w.store.Predict(app, storetest.SetState("second", policy.Revoked))
				follow(w, app)
				w.pass(enough)
				w.r.Committed(0, lost.Link)
				if w.position(0) == lost.Cursor {
					w.store.Commit(app, storetest.AddToken("other"))
				}
				w.pass(enough)
				w.mustEqualStore()
				if held := w.r.Orphans(0); !slices.Equal(held, []record.Tag{lost.Cursor.Tag}) || !w.r.Forked(0) {
					w.Errorf("held are %x, want %x\n%s", held, lost.Cursor.Tag, w.log)
				}
			})
		})
	}
}

// TestOwnChangeThatComesOutOfOrderIsFollowed, and not held on to: others have changed the partition in
// between.
func TestOwnChangeThatComesOutOfOrderIsFollowed(t *testing.T) {
	simulate(t, 1, func(w *world) {
		app := w.fill(0, 3)[1]
		w.startLoaded()
		w.faults(storetest.Faults{Hint: deaf})
		w.store.Commit(app, storetest.AddToken("of another"))
		own := w.store.Commit(app, storetest.AddToken("own"))
		w.r.Committed(0, own.Link)
		w.pass(longestPoll)
		w.mustEqualStore()
		if w.r.Forked(0) || len(w.r.Orphans(0)) > 0 {
			w.Errorf("held are %x", w.r.Orphans(0))
		}
	})
}
