package replica_test

import (
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/testkit/storetest"
)

// keep exports every partition of the replica.
func (w *world) keep() (all []replica.Contents) {
	w.Helper()
	for partition := range w.store.Codec().Partitions() {
		c, loaded := w.r.Export(partition)
		if !loaded {
			w.Fatalf("partition %d is not loaded", partition)
		}
		all = append(all, c)
	}
	return all
}

// startFrom starts a replica with imported contents.
func (w *world) startFrom(all []replica.Contents) {
	w.Helper()
	w.prepare()
	for _, c := range all {
		if err := w.r.Import(c); err != nil {
			w.Fatal(err)
		}
	}
	w.run()
}

// TestB20_ReplicaGoesOnFromWhatItKept: while the store is away, an imported replica serves its data with the
// right age. It has every sticky revocation and every orphan.
func TestB20_ReplicaGoesOnFromWhatItKept(t *testing.T) {
	simulate(t, 2, func(w *world) {
		app := w.fill(0, 3)[1]
		w.startLoaded()
		lost := w.phantom(app, storetest.SetState("second", policy.Revoked))
		w.pass(2 * longestPoll)
		before, cursor := w.entry(app), w.position(0)
		all := w.keep()
		w.stop()
		w.pass(time.Hour)

		w.faults(storetest.Faults{Down: errRefused})
		w.startFrom(all)
		w.pass(longestPoll)
		if w.r.Loaded() {
			w.Error("one answer that did not come made it ready")
		}
		w.pass(3 * longestPoll)
		if !w.r.Loaded() {
			w.Error("it is not ready though the store does not answer")
		}
		if after := w.entry(app); w.position(0) != cursor || !samePolicy(after.Policy, before.Policy) || !after.Kept() {
			w.Errorf("at %v it has %+v", w.position(0), after)
		}
		if age, stale := w.r.Freshness(0, time.Now()); age < time.Hour || age > time.Hour+enough || !stale {
			w.Errorf("age %v, stale %v", age, stale)
		}
		if held := w.r.Orphans(0); !slices.Equal(held, []record.Tag{lost.Cursor.Tag}) {
			w.Errorf("held are %x", held)
		}

		w.store.Commit(app, storetest.AddToken("later"))
		w.faults(storetest.Faults{})
		w.store.ResetCalls()
		w.pass(enough)
		w.mustEqualStore()
		w.mustBeFresh(0)
		if state := w.tokens(app)["second"]; state != policy.Revoked {
			w.Errorf("the revocation is gone: state %d", state)
		}
		if calls := w.store.Calls(); calls.Documents[0]+calls.Documents[1] != 0 {
			w.Errorf("all was read again: %+v", calls)
		}
	})
}

// TestB20_WhatWasKeptIsBroughtUpToDateBeforeItIsReady: imported data serves only after the store's changes
// were applied, if the store answers.
func TestB20_WhatWasKeptIsBroughtUpToDateBeforeItIsReady(t *testing.T) {
	simulate(t, 2, func(w *world) {
		app := w.fill(0, 3)[1]
		w.startLoaded()
		all := w.keep()
		w.stop()
		w.store.Commit(app, storetest.SetState("second", policy.Revoked))
		slow := 300 * time.Millisecond
		w.faults(storetest.Faults{Latency: func() time.Duration { return slow }})
		w.startFrom(all)
		for !w.r.Loaded() {
			w.pass(time.Millisecond)
		}
		w.mustEqualStore()
	})
}

// TestB20_WhatWasKeptIsAFloor: a store older than the imported data is a fork, and is not followed.
func TestB20_WhatWasKeptIsAFloor(t *testing.T) {
	simulate(t, 1, func(w *world) {
		app := w.fill(0, 3)[1]
		w.startLoaded()
		old := w.store.Save()
		w.commit(app, storetest.SetState("second", policy.Revoked))
		w.pass(2 * longestPoll)
		all := w.keep()
		w.stop()
		w.store.RollBack(old)
		w.startFrom(all)
		w.mustGrowOld(app)
		if w.tokens(app)["second"] != policy.Revoked || !w.r.Forked(0) || !w.r.Loaded() {
			w.Errorf("tokens %v, forked %v, ready %v", w.tokens(app), w.r.Forked(0), w.r.Loaded())
		}
	})
}

// TestContentsThatDoNotAddUpAreRefused as a whole.
func TestContentsThatDoNotAddUpAreRefused(t *testing.T) {
	simulate(t, 2, func(w *world) {
		w.fill(0, 3)
		w.startLoaded()
		for name, spoil := range map[string]func(*replica.Contents){
			"an app is missing":             func(c *replica.Contents) { c.Apps = c.Apps[1:] },
			"an app is there twice":         func(c *replica.Contents) { c.Apps = append(c.Apps, c.Apps[0]) },
			"an app is older":               func(c *replica.Contents) { e := *c.Apps[0].Entry; e.Revision--; c.Apps[0].Entry = &e },
			"another partition":             func(c *replica.Contents) { c.Partition = 1 },
			"no partition":                  func(c *replica.Contents) { c.Partition = 2 },
			"a link is missing":             func(c *replica.Contents) { c.Links = c.Links[:len(c.Links)-1] },
			"a link is no link":             func(c *replica.Contents) { c.Links[0] = []byte("garbage") },
			"the sum is that of other apps": func(c *replica.Contents) { c.Sum = c.Sum.Plus(c.Sum) },
		} {
			c := w.keep()[0]
			spoil(&c)
			r := replica.New(w.store, w.store.Codec(), slog.New(w.log))
			if err := r.Import(c); err == nil {
				w.Errorf("%s: taken", name)
			}
			if r.Table().Partition(0) != nil || r.Table().Partition(1) != nil {
				w.Errorf("%s: shown", name)
			}
		}
	})
}

// TestB08_NotReadyWhileTheStoreAddsToWhatWasKept: imported data does not serve before the store's changes are
// applied, however long that takes. It may lack a revocation that is in force everywhere else.
func TestB08_NotReadyWhileTheStoreAddsToWhatWasKept(t *testing.T) {
	simulate(t, 1, func(w *world) {
		app := w.fill(0, 3)[1]
		w.startLoaded()
		all := w.keep()
		w.stop()
		w.store.Commit(app, storetest.SetState("second", policy.Revoked))
		w.store.NewEpoch(0)
		w.faults(storetest.Faults{Step: func(s storetest.Step, _ int) error {
			if s == storetest.ScanNext {
				time.Sleep(3 * time.Second)
			}
			return nil
		}})
		w.startFrom(all)
		for range 30 {
			w.pass(time.Second)
			if state, shown := w.tokens(app)["second"]; shown && state != policy.Revoked {
				w.Fatalf("it decides, and the token is %d", state)
			}
		}
		if !w.r.Loaded() {
			w.Error("it is never ready")
		}
	})
}

// TestB20_OnePartitionThatCannotBeLoadedDoesNotStopOthers: its imported data does not serve while the store
// says that there is more, however long that cannot be read.
func TestB20_OnePartitionThatCannotBeLoadedDoesNotStopOthers(t *testing.T) {
	simulate(t, 2, func(w *world) {
		bad, good := w.fill(0, 3)[1], w.fill(1, 3)[1]
		w.startLoaded()
		all := w.keep()
		w.stop()
		w.store.Commit(bad, storetest.SetState("second", policy.Revoked))
		w.store.NewEpoch(0)
		w.store.SetDocument(w.store.App(0, 0), nil)
		w.startFrom(all)
		w.pass(time.Minute)
		if view := w.r.Table().Find(good); !view.Loaded || view.Entry() == nil {
			w.Errorf("nothing is decided where nothing is wrong: %+v", view)
		}
		if view := w.r.Table().Find(bad); view.Loaded || w.r.Loaded() {
			w.Errorf("it is decided from a copy that is older than the store: %+v", view)
		}
	})
}
