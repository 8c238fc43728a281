package replica_test

import (
	"slices"
	"testing"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/testkit/storetest"
)

// TestChangesThatTheStoreLostAreHeldUntilTheyAreSettled: hints that the store took back, and changes after a
// fork. An authority heals the store from them.
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
				// An epoch that does not settle them leaves them, also across changes.
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

// TestNothingIsHeldOnToThatTheStoreHas: a new epoch on a store that lost nothing leaves no orphans, also with
// late reads.
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

// TestChangeThatADeposedMasterTookIsHeld: its caller was told that the change was made. So this replica must
// keep it although it follows another master.
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
				w.committed(lost.Link)
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

// TestOwnChangeThatComesOutOfOrderIsFollowed: a committed change does not become an orphan when others have
// changed the partition in between.
func TestOwnChangeThatComesOutOfOrderIsFollowed(t *testing.T) {
	simulate(t, 1, func(w *world) {
		app := w.fill(0, 3)[1]
		w.startLoaded()
		w.faults(storetest.Faults{Hint: deaf})
		w.store.Commit(app, storetest.AddToken("of another"))
		own := w.store.Commit(app, storetest.AddToken("own"))
		w.committed(own.Link)
		w.pass(longestPoll)
		w.mustEqualStore()
		if w.r.Forked(0) || len(w.r.Orphans(0)) > 0 {
			w.Errorf("held are %x", w.r.Orphans(0))
		}
	})
}

// committed gives the replica a link of partition 0 that its own process has committed.
func (w *world) committed(raw []byte) {
	w.Helper()
	link, err := w.store.Codec().OpenLink(0, raw)
	if err != nil {
		w.Fatal(err)
	}
	w.r.Committed(0, link, raw)
}
