package replica_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/countersign/countersign/pkg/testkit/storetest"
)

// TestCrossingThatMeetsAnotherStore: while a replica loads a new epoch, a failover brings a master with an
// older copy, in which an operator has begun an epoch of the same number. The replica keeps its history,
// which the new store lacks.
func TestCrossingThatMeetsAnotherStore(t *testing.T) {
	simulate(t, 1, func(w *world) {
		apps := w.fill(0, 3)
		copied := w.store.Save()
		w.store.Commit(apps[0], storetest.AddToken("lost"))
		w.start()
		w.mustLoad()
		w.pass(enough)
		held := w.r.Links(0)
		w.store.NewEpoch(0)
		reads := 0
		w.faults(storetest.Faults{Step: func(step storetest.Step, _ int) error {
			switch {
			case step == storetest.ScanEnd && reads == 0:
				reads = 1
			case step == storetest.TailHead && reads > 0:
				reads++
			}
			if reads == 3 { // the first read after the scan is for changes meanwhile, the second for the history
				reads = -1
				w.store.RollBack(copied)
				w.store.Adopt(0)
				for i := range 3 {
					w.store.Commit(apps[1], storetest.AddToken(fmt.Sprint("new", i)))
				}
				w.store.Trim(0, 1) // as in a restoration, whose log begins far above
			}
			return nil
		}})
		w.pass(enough)
		if reads != -1 {
			t.Fatal("the store was not replaced: the test shows nothing")
		}
		now := w.r.Links(0)
		for i, link := range held {
			if !slices.ContainsFunc(now, func(other []byte) bool { return bytes.Equal(link, other) }) {
				t.Errorf("entry %d of %d is forgotten", i, len(held))
			}
		}
	})
}
