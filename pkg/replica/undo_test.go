package replica_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/table"
	"github.com/countersign/countersign/pkg/testkit/storetest"
)

// phantom publishes a change that the store does not have: a failover took it back after it was published.
func (w *world) phantom(app string, changes ...storetest.Change) storetest.Commit {
	lost := w.store.Predict(app, changes...)
	w.store.Publish(lost.Partition, lost.Link)
	synctest.Wait()
	return lost
}

// TestHintThatTheStoreTookBackIsUndone within a poll and without an alarm, since nothing confirmed was lost.
func TestHintThatTheStoreTookBackIsUndone(t *testing.T) {
	simulate(t, 1, func(w *world) {
		app := w.fill(0, 3)[1]
		w.startLoaded()
		lost := w.phantom(app, storetest.SetState("second", policy.Disabled))
		if w.tokens(app)["second"] != policy.Disabled || w.position(0) != lost.Cursor {
			w.Fatal("the hint was not followed")
		}
		w.pass(longestPoll + 10*latency)
		w.mustEqualStore()
		if state := w.tokens(app)["second"]; state != policy.Active {
			w.Errorf("the change that was taken back is still seen: state %d", state)
		}
		w.pass(enough)
		w.mustEqualStore()
		w.mustBeFresh(0)
		if n := w.log.count("ERROR") + w.log.count("WARN"); n > 0 {
			w.Errorf("%d alarms:\n%s", n, w.log)
		}
		w.commit(app, storetest.SetState("first", policy.Disabled))
		w.mustEqualStore()
	})
}

// TestSeveralHintsThatTheStoreTookBackAreUndone together.
func TestSeveralHintsThatTheStoreTookBackAreUndone(t *testing.T) {
	simulate(t, 1, func(w *world) {
		app := w.fill(0, 3)[1]
		w.startLoaded()
		was := w.store.Save()
		for i := range 5 {
			w.commit(app, storetest.AddToken(string(rune('a'+i))))
		}
		w.store.RollBack(was)
		w.pass(longestPoll + 10*latency)
		w.mustEqualStore()
		if n := w.log.count("ERROR"); n > 0 {
			w.Errorf("%d alarms:\n%s", n, w.log)
		}
	})
}

// TestStoreThatTakesAnotherTurnBehindWhatWasConfirmed: hints are undone, and the store's own changes are
// followed.
func TestStoreThatTakesAnotherTurnBehindWhatWasConfirmed(t *testing.T) {
	for name, others := range map[string]int{"behind": 1, "level": 3, "ahead": 6} {
		t.Run(name, func(t *testing.T) {
			simulate(t, 1, func(w *world) {
				apps := w.fill(0, 3)
				w.startLoaded()
				was := w.store.Save()
				for i := range 3 {
					w.commit(apps[1], storetest.AddToken(string(rune('a'+i))))
				}
				w.store.RollBack(was)
				for i := range others {
					w.commit(apps[2], storetest.AddToken(string(rune('A'+i))))
				}
				w.pass(longestPoll + 10*latency)
				w.mustEqualStore()
				w.mustBeFresh(0)
				if n := w.log.count("ERROR"); n > 0 {
					w.Errorf("%d alarms:\n%s", n, w.log)
				}
			})
		})
	}
}

// TestUndoDropsOnlyWhatTheStoreDoesNotHave: a change that arrives during the reload is kept.
func TestUndoDropsOnlyWhatTheStoreDoesNotHave(t *testing.T) {
	simulate(t, 1, func(w *world) {
		apps := w.fill(0, 3)
		w.startLoaded()
		w.phantom(apps[1], storetest.SetState("second", policy.Revoked))
		var committed atomic.Bool
		w.faults(storetest.Faults{Step: func(step storetest.Step, _ int) error {
			if step == storetest.ScanEnd && committed.CompareAndSwap(false, true) {
				w.store.Commit(apps[2], storetest.SetState("second", policy.Revoked))
			}
			return nil
		}})
		w.pass(longestPoll + 10*latency)
		if !committed.Load() {
			w.Fatal("nothing was undone")
		}
		w.mustEqualStore()
	})
}

// TestPhantomsThatArriveDuringALoadAreNotMixedIn: during a load, hints arrive of changes that the store then
// lost, while it took another turn. The replica shows what the load has proven, and only what continues it.
func TestPhantomsThatArriveDuringALoadAreNotMixedIn(t *testing.T) {
	simulate(t, 1, func(w *world) {
		apps := w.fill(0, 3)
		w.startLoaded()
		was := w.store.Save()
		w.faults(storetest.Faults{Hint: deaf})
		lost := []storetest.Commit{
			w.store.Commit(apps[0], storetest.AddToken("a")),
			w.store.Commit(apps[1], storetest.SetState("second", policy.Revoked)),
		}
		w.store.RollBack(was)
		w.pass(2 * longestPoll)
		w.mustEqualStore()

		var taken atomic.Pointer[storetest.Commit]
		interfere := func(step storetest.Step, _ int) error {
			if step == storetest.ScanEnd && taken.Load() == nil {
				for _, phantom := range lost {
					w.r.Offer(0, phantom.Link)
				}
				made := w.store.Commit(apps[2], storetest.AddToken("b"))
				taken.Store(&made)
			}
			return nil
		}
		w.faults(storetest.Faults{Hint: deaf, Step: interfere})
		w.r.Corrupt(0, apps[0], &table.Entry{Revision: 1}) // so that it loads
		made := taken.Load()
		for began := time.Now(); made == nil || w.entry(apps[2]).Revision != made.Cursor.Revision; made = taken.Load() {
			w.pass(latency)
			if time.Since(began) > enough {
				w.Fatalf("nothing was loaded\n%s", w.log)
			}
		}
		if w.position(0) != made.Cursor || lost[0].Cursor.Revision != made.Cursor.Revision {
			w.Errorf("the cursor is at %v; the store is at %v", w.position(0), made.Cursor)
		}
		w.mustEqualStore()
		w.pass(enough)
		w.mustEqualStore()
		w.mustBeFresh(0)
	})
}

// TestAnswerThatWasAskedForBeforeAnUndoIsNoReasonForAnother: its head is behind the cursor at which it was
// asked for, because of changes that were undone since.
func TestAnswerThatWasAskedForBeforeAnUndoIsNoReasonForAnother(t *testing.T) {
	simulate(t, 1, func(w *world) {
		app := w.fill(0, 3)[1]
		w.startLoaded()
		var late atomic.Bool
		w.faults(storetest.Faults{Step: func(step storetest.Step, _ int) error {
			if step == storetest.AllHeads && late.CompareAndSwap(false, true) {
				time.Sleep(50 * time.Millisecond)
			}
			return nil
		}})
		w.phantom(app, storetest.SetState("second", policy.Revoked))
		for !late.Load() {
			w.pass(latency)
		}
		w.store.Publish(0, []byte("garbage")) // makes it read at once
		w.pass(20 * latency)
		w.mustEqualStore()
		w.pass(time.Second)
		w.mustEqualStore()
		if calls := w.store.Calls(); calls.Documents[0] != 2 {
			w.Errorf("read everything %d times:\n%s", calls.Documents[0], w.log)
		}
	})
}
