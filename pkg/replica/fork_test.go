package replica_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/table"
	"github.com/countersign/countersign/pkg/testkit/storetest"
)

// TestForkIsNotFollowed: a store that denies what was confirmed, or cannot be verified, changes nothing. The
// last good data serves, its age grows, one error is logged, and other partitions are not affected.
func TestForkIsNotFollowed(t *testing.T) {
	for name, fork := range map[string]func(w *world, apps []string, before storetest.State){
		"head lower than confirmed": func(w *world, _ []string, before storetest.State) {
			w.store.RollBackPartition(0, before)
		},
		"other change at confirmed": func(w *world, apps []string, before storetest.State) {
			w.store.RollBackPartition(0, before)
			w.store.Commit(apps[2], storetest.AddToken("other"))
		},
		"other change at confirmed, and more": func(w *world, apps []string, before storetest.State) {
			w.store.RollBackPartition(0, before)
			for i := range 5 {
				w.store.Commit(apps[2], storetest.AddToken(string(rune('A'+i))))
			}
		},
		"other change at confirmed, hints lost": func(w *world, apps []string, before storetest.State) {
			w.store.RollBackPartition(0, before)
			w.faults(storetest.Faults{Hint: deaf})
			for i := range 5 {
				w.store.Commit(apps[2], storetest.AddToken(string(rune('A'+i))))
			}
		},
		"lower epoch": func(w *world, _ []string, _ storetest.State) {
			was := w.store.Save()
			w.store.NewEpoch(0)
			w.pass(enough)
			w.mustEqualStore()
			w.store.RollBackPartition(0, was)
			w.log.clear()
		},
		"lower epoch that goes on": func(w *world, apps []string, _ storetest.State) {
			was := w.store.Save()
			w.store.NewEpoch(0)
			w.pass(enough)
			w.mustEqualStore()
			w.store.RollBackPartition(0, was)
			w.store.Commit(apps[2], storetest.AddToken("other"))
			w.log.clear()
		},
		"no head":    func(w *world, _ []string, _ storetest.State) { w.store.SetHead(0, nil) },
		"empty head": func(w *world, _ []string, _ storetest.State) { w.store.SetHead(0, []byte{}) },
		"unsigned head": func(w *world, _ []string, _ storetest.State) {
			raw := bytes.Clone(w.store.RawHead(0))
			raw[len(raw)-1] ^= 1
			w.store.SetHead(0, raw)
		},
		"head of another partition": func(w *world, _ []string, _ storetest.State) { w.store.SetHead(0, w.store.RawHead(1)) },
		"everything gone": func(w *world, apps []string, _ storetest.State) {
			w.store.SetHead(0, nil)
			w.store.SetLog(0, nil)
			for _, app := range apps {
				w.store.SetDocument(app, nil)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, 2, func(w *world) {
				apps := w.fill(0, 3)
				elsewhere := w.fill(1, 1)[0]
				w.startLoaded()
				before := w.store.Save()
				w.commit(apps[1], storetest.SetState("second", policy.Revoked))
				w.pass(enough)
				w.mustEqualStore()
				w.log.clear()
				good := w.store.Save()

				fork(w, apps, before)
				cursor, _, _ := w.r.State(0)
				began := time.Now()
				w.mustGrowOld(apps[1])
				if w.tokens(apps[1])["second"] != policy.Revoked {
					w.Error("the revocation is gone")
				}
				if at, _, _ := w.r.State(0); at != cursor {
					w.Errorf("the cursor went from %v to %v", cursor, at)
				}
				alarms := w.log.count("ERROR") + w.log.count("WARN")
				if alarms == 0 {
					w.Error("not a word about it")
				}
				if least := time.Since(began).Seconds()/2.56 + 10; float64(alarms) > least {
					w.Errorf("%d alarms:\n%s", alarms, w.log)
				}
				if bad := w.r.Stats().Quarantined; bad != 0 != slices.Contains([]string{
					"empty head", "unsigned head",
					"head of another partition",
				}, name) || bad > 2 {
					w.Errorf("%d records count as damaged", bad)
				}
				w.mustBeFresh(1)
				w.faults(storetest.Faults{})
				w.pass(longestPoll)
				w.commit(elsewhere, storetest.AddToken("third"))
				if why := w.difference(1); why != "" {
					w.Errorf("the other partition: %s", why)
				}

				// When the store is as before, it is followed again.
				if name == "lower epoch" || name == "lower epoch that goes on" {
					return
				}
				w.store.RollBackPartition(0, good)
				w.pass(enough)
				w.commit(apps[0], storetest.SetState("second", policy.Disabled))
				w.mustEqualStore()
				w.mustBeFresh(0)
			})
		})
	}
}

// TestForkIsSeenFromTheHeadAlone: a fork that the head shows is reported without further reads.
func TestForkIsSeenFromTheHeadAlone(t *testing.T) {
	for name, fork := range map[string]struct {
		make func(w *world, before storetest.State)
		says string
	}{
		"lower revision": {
			func(w *world, before storetest.State) { w.store.RollBack(before) },
			"it denies changes that were confirmed",
		},
		"other change": {func(w *world, before storetest.State) {
			w.store.RollBack(before)
			w.store.Commit(w.store.App(0, 2), storetest.AddToken("other"))
		}, "it denies changes that were confirmed"},
		"lower epoch": {func(w *world, before storetest.State) {
			w.store.NewEpoch(0)
			w.pass(2 * longestPoll)
			w.store.RollBack(before)
		}, "its epoch is over"},
		"lower epoch with a higher revision": {func(w *world, before storetest.State) {
			w.store.NewEpoch(0)
			w.pass(2 * longestPoll)
			w.store.RollBack(before)
			for range 1100 {
				w.store.Commit(w.store.App(0, 2), storetest.SetState("second", policy.Disabled))
			}
		}, "its epoch is over"},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, 1, func(w *world) {
				apps := w.fill(0, 3)
				w.startLoaded()
				before := w.store.Save()
				w.commit(apps[1], storetest.SetState("second", policy.Revoked))
				w.pass(2 * longestPoll)
				w.faults(storetest.Faults{Hint: deaf})
				fork.make(w, before)
				w.log.clear()
				w.store.ResetCalls()
				w.mustGrowOld(apps[1])
				if calls := w.store.Calls(); calls.Tails[0]+calls.Documents[0] > 0 {
					w.Errorf("read on: %+v", calls)
				}
				if n := w.log.count("ERROR the store has forked: " + fork.says); n != 1 {
					w.Errorf("said %d times:\n%s", n, w.log)
				}
			})
		})
	}
}

// TestForkIsNotFollowedByAReloadThatIsDue: a partition that must be loaded for another reason is not loaded
// from a store that denies what was confirmed.
func TestForkIsNotFollowedByAReloadThatIsDue(t *testing.T) {
	for name, fork := range map[string]func(w *world, before storetest.State){
		"lower revision": func(*world, storetest.State) {},
		"other change": func(w *world, _ storetest.State) {
			w.store.Commit(w.store.App(0, 2), storetest.AddToken("other"))
			w.store.Trim(0, 0)
		},
		"other change, and more": func(w *world, _ storetest.State) {
			for i := range 5 {
				w.store.Commit(w.store.App(0, 2), storetest.AddToken(string(rune('A'+i))))
			}
		},
		"lower epoch with a higher revision": func(w *world, _ storetest.State) {
			for range 1100 {
				w.store.Commit(w.store.App(0, 2), storetest.SetState("second", policy.Disabled))
			}
			w.store.Trim(0, 0)
		},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, 1, func(w *world) {
				apps := w.fill(0, 3)
				w.startLoaded()
				before := w.store.Save()
				if name == "lower epoch with a higher revision" {
					w.store.NewEpoch(0)
					w.pass(2 * longestPoll)
				}
				w.commit(apps[1], storetest.SetState("second", policy.Revoked))
				w.pass(2 * longestPoll)
				w.mustEqualStore()
				// A load begins, and cannot finish.
				noScan := func(step storetest.Step, _ int) error {
					if step == storetest.ScanStart {
						return errRefused
					}
					return nil
				}
				w.faults(storetest.Faults{Hint: deaf, Step: noScan})
				w.r.Corrupt(0, w.store.App(0, 30), &table.Entry{Revision: 1})
				w.pass(2 * longestPoll)
				w.store.RollBack(before)
				fork(w, before)
				w.faults(storetest.Faults{Hint: deaf})
				w.store.ResetCalls()
				w.mustGrowOld(apps[1])
				if w.tokens(apps[1])["second"] != policy.Revoked {
					w.Error("the revocation is gone")
				}
				if calls := w.store.Calls(); calls.Documents[0] > 0 {
					w.Errorf("read it whole: %+v", calls)
				}
			})
		})
	}
}

// TestHigherSignedEpochCrossesAFork: a higher epoch is followed by a reload, whatever it contains.
func TestHigherSignedEpochCrossesAFork(t *testing.T) {
	simulate(t, 2, func(w *world) {
		apps := w.fill(0, 3)
		w.startLoaded()
		before := w.store.Save()
		w.commit(apps[1], storetest.SetState("second", policy.Revoked))
		w.pass(enough)
		w.store.RollBackPartition(0, before)
		w.store.Commit(apps[2], storetest.AddToken("other"))
		w.pass(enough)
		w.store.ResetCalls()

		w.store.NewEpoch(0)
		w.pass(3 * time.Second) // the pauses between attempts have grown
		w.mustEqualStore()
		w.mustBeFresh(0)
		if calls := w.store.Calls(); calls.Documents[0] != 1 {
			w.Errorf("read everything %d times for a new epoch", calls.Documents[0])
		}
		w.commit(apps[1], storetest.SetState("second", policy.Revoked))
		w.mustEqualStore()
		w.pass(enough)
		w.mustEqualStore()
	})
}

// TestHigherEpochIsFollowedWithoutAForkToo: a higher epoch is followed without a fork, too, and hints of the
// earlier epoch are ignored.
func TestHigherEpochIsFollowedWithoutAForkToo(t *testing.T) {
	simulate(t, 1, func(w *world) {
		app := w.fill(0, 3)[1]
		w.startLoaded()
		late := w.store.Predict(app, storetest.SetState("second", policy.Disabled))
		w.log.clear()
		w.store.NewEpoch(0)
		w.commit(app, storetest.SetState("second", policy.Revoked))
		w.store.Publish(0, late.Link)
		w.pass(longestPoll + 20*latency)
		w.mustEqualStore()
		if n := w.log.count("the store is in a new epoch"); n != 1 {
			w.Errorf("said %d times:\n%s", n, w.log)
		}
		w.store.Publish(0, late.Link)
		w.pass(enough)
		w.mustEqualStore()
		w.mustBeFresh(0)
	})
}

// TestLostHintsAreHeldOnTo: a replica keeps a change that came as a hint and that the store lost, whether the
// store then ends before it, at its revision, or above.
func TestLostHintsAreHeldOnTo(t *testing.T) {
	for name, others := range map[string]int{"behind": 0, "level": 1, "ahead": 2} {
		t.Run(name, func(t *testing.T) {
			simulate(t, 1, func(w *world) {
				apps := w.fill(0, 3)
				w.startLoaded()
				was := w.store.Save()
				lost := w.commit(apps[1], storetest.AddToken("lost"))
				w.faults(storetest.Faults{Hint: deaf})
				w.store.RollBack(was)
				for i := range others {
					w.store.Commit(apps[2], storetest.AddToken(string(rune('A'+i))))
				}
				w.pass(4 * longestPoll)
				w.mustBeFresh(0)
				if orphans := w.r.Orphans(0); !w.r.Forked(0) || !slices.Equal(orphans, []record.Tag{lost.Cursor.Tag}) {
					t.Errorf("forked %t, held on to: %v", w.r.Forked(0), orphans)
				}
				if !slices.ContainsFunc(w.r.Links(0), func(raw []byte) bool { return string(raw) == string(lost.Link) }) {
					t.Error("the change cannot be supplied")
				}
			})
		})
	}
}

// TestFloorBelowTheStore: a store is not followed when it has another change at the floor's revision,
// although it continues the replica's data.
func TestFloorBelowTheStore(t *testing.T) {
	simulate(t, 1, func(w *world) {
		apps := w.fill(0, 3)
		w.startLoaded()
		was := w.store.Save()
		w.faults(storetest.Faults{Hint: deaf, Down: errors.New("down")})
		lost := w.store.Commit(apps[1], storetest.SetState("second", policy.Revoked))
		w.store.RollBack(was)
		for i := range 3 {
			w.store.Commit(apps[2], storetest.AddToken(string(rune('A'+i))))
		}
		w.r.SetFloor([]record.Position{w.store.Position(lost)})
		at := w.position(0)
		w.faults(storetest.Faults{Hint: deaf})
		w.mustGrowOld(apps[1])
		if !w.r.Forked(0) || w.position(0) != at {
			t.Errorf("forked %t, the cursor went from %v to %v", w.r.Forked(0), at, w.position(0))
		}
	})
}

// TestDamagedDocumentIsNotReached: while an app has only its last good policy, the partition does not count
// as being at its cursor, and the policy's age counts from when it was last current.
func TestDamagedDocumentIsNotReached(t *testing.T) {
	simulate(t, 1, func(w *world) {
		app := w.fill(0, 3)[1]
		w.startLoaded()
		w.faults(storetest.Faults{Hint: deaf, Down: errors.New("down")})
		w.store.Commit(app, storetest.SetState("second", policy.Revoked))
		raw := bytes.Clone(w.store.RawDocument(app))
		raw[len(raw)-1] ^= 1
		w.store.SetDocument(app, raw)
		w.store.Trim(0, 0)
		w.pass(time.Minute)
		w.faults(storetest.Faults{Hint: deaf})
		w.pass(4 * time.Second)
		entry := w.entry(app)
		if age := time.Since(entry.Since); !w.r.Torn(0) || !entry.Behind() || age < time.Minute {
			t.Errorf("torn %t, behind %t, for %s", w.r.Torn(0), entry.Behind(), age)
		}
	})
}

// TestFloorDuringALoad: a load does not install data below a floor that was set meanwhile.
func TestFloorDuringALoad(t *testing.T) {
	simulate(t, 1, func(w *world) {
		app := w.fill(0, 3)[1]
		old := w.store.Save()
		w.store.Commit(app, storetest.SetState("second", policy.Revoked))
		at := record.Position{StoreID: w.store.Codec().StoreID(), Partition: 0, Cursor: w.store.Head(0).Cursor}
		now := w.store.Save()
		w.store.RollBack(old)
		w.prepare()
		w.faults(storetest.Faults{Step: func(s storetest.Step, _ int) error {
			if s == storetest.ScanNext {
				w.r.SetFloor([]record.Position{at})
			}
			return nil
		}})
		w.run()
		w.pass(enough)
		if w.r.Loaded() {
			w.Errorf("it is ready, and a token that is revoked is %d", w.tokens(app)["second"])
		}
		w.store.RollBack(now)
		w.mustLoad()
		w.mustEqualStore()
	})
}

// TestFloorIsNoPast: setting a floor does not make a replica forget a change that only it holds and the store
// has lost.
func TestFloorIsNoPast(t *testing.T) {
	simulate(t, 1, func(w *world) {
		apps := w.fill(0, 3)
		w.startLoaded()
		w.pass(2 * longestPoll)
		lost := w.store.Predict(apps[1], storetest.SetState("second", policy.Revoked))
		w.faults(storetest.Faults{Hint: deaf, Down: errRefused})
		w.r.Offer(0, lost.Link)
		for _, id := range []string{"A", "B", "C"} {
			w.store.Commit(apps[2], storetest.AddToken(id))
		}
		w.r.SetFloor([]record.Position{{StoreID: w.store.Codec().StoreID(), Partition: 0, Cursor: w.store.Head(0).Cursor}})
		w.faults(storetest.Faults{Hint: deaf})
		w.pass(enough)
		w.mustEqualStore()
		if held := w.r.Orphans(0); !slices.Equal(held, []record.Tag{lost.Cursor.Tag}) {
			w.Errorf("held are %x\n%s", held, w.log)
		}
	})
}
