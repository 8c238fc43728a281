package replica_test

import (
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/testkit/storetest"
)

// TestB08_FreshReplicaWaitsForTheFleet: an empty replica does not load a store that an operator has just
// restored or adopted, since a healing will bring back revocations. It loads as soon as the healing is done.
// Without a healing it loads after a minute by its own clock, since the operator's clock may be wrong.
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

// TestRestoredStoreIsFollowedWhenItIsHealed: a running replica keeps its data until the healing, however long
// that takes. A replica that heals follows at once.
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

// TestSnapshotDecidesWhileTheStoreIsNotHealed: imported data serves meanwhile, as in a running replica.
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
