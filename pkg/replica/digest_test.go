package replica_test

import (
	"testing"
	"testing/synctest"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/table"
	"github.com/countersign/countersign/pkg/testkit/storetest"
)

// TestSilentDivergenceIsFoundAndMended: the next poll finds that the data's digest differs from the head's,
// and the partition is loaded again.
func TestSilentDivergenceIsFoundAndMended(t *testing.T) {
	simulate(t, 2, func(w *world) {
		apps := w.fill(0, 3)
		w.startLoaded()
		for name, corrupt := range map[string]func(){
			"an app has an old entry":    func() { w.r.Corrupt(0, apps[1], &table.Entry{Revision: 1}) },
			"an app that is not there":   func() { w.r.Corrupt(0, w.store.App(0, 30), &table.Entry{Revision: 3}) },
			"an entry from the future":   func() { w.r.Corrupt(0, apps[2], &table.Entry{Revision: 1 << 40}) },
			"a new app is known already": func() { w.r.Corrupt(0, w.store.App(0, 31), w.entry(apps[0])) },
		} {
			w.log.clear()
			corrupt()
			if w.difference(0) == "" {
				w.Fatalf("%s: nothing was spoilt", name)
			}
			w.pass(longestPoll + 20*latency)
			w.mustEqualStore()
			w.mustBeFresh(0)
			if n := w.log.count("ERROR"); n != 1 {
				w.Errorf("%s: said %d times:\n%s", name, n, w.log)
			}
		}
		w.commit(apps[1], storetest.SetState("second", policy.Revoked))
		w.mustEqualStore()
	})
}

// TestSilentDivergenceIsNotCarriedOn: later changes neither hide a divergence nor are applied to diverged
// policies.
func TestSilentDivergenceIsNotCarriedOn(t *testing.T) {
	simulate(t, 1, func(w *world) {
		apps := w.fill(0, 3)
		w.startLoaded()
		old := w.entry(apps[1])
		w.commit(apps[1], storetest.AddToken("third"))
		w.r.Corrupt(0, apps[1], old)
		w.commit(apps[2], storetest.SetState("second", policy.Revoked))
		for range 2 {
			w.store.Commit(apps[1], storetest.Enforce(sessions))
		}
		synctest.Wait()
		if entry := w.entry(apps[1]); *entry.Policy != *old.Policy || !entry.Behind() {
			w.Errorf("%+v, want the policy that it had, and to be behind", entry)
		}
		w.pass(20 * latency)
		w.mustEqualStore()
	})
}

// TestHeadThatDoesNotFitItsDocumentsIsNotBelieved: when the store itself is inconsistent, the partition keeps
// its data and grows old.
func TestHeadThatDoesNotFitItsDocumentsIsNotBelieved(t *testing.T) {
	simulate(t, 1, func(w *world) {
		app := w.fill(0, 3)[1]
		w.startLoaded()
		head := w.store.Head(0)
		head.State.MAC[0] ^= 1
		raw, err := w.store.Codec().SealHead(0, head)
		if err != nil {
			w.Fatal(err)
		}
		w.store.SetHead(0, raw)
		w.mustGrowOld(app)
		w.mustEqualStore()
	})
}
