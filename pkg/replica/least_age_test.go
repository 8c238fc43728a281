package replica_test

import (
	"errors"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/testkit/storetest"
)

// TestLeastAge: one partition that is read is enough. When none is, the age of the latest read grows.
// Partitions that were never loaded, or that wait for a healing, do not count.
func TestLeastAge(t *testing.T) {
	simulate(t, 2, func(w *world) {
		least := func() time.Duration {
			age, some := w.r.LeastAge(time.Now())
			if !some {
				w.Fatal("there is none")
			}
			return age
		}
		w.fill(0, 1)
		w.fill(1, 1)
		whole := w.store.Save()
		w.prepare()
		w.r.Heals()
		if age, some := w.r.LeastAge(time.Now()); some {
			w.Errorf("before anything was loaded: %v", age)
		}
		w.run()
		w.mustLoad()
		w.pass(enough)
		if age := least(); age > 2*longestPoll {
			w.Errorf("while both are read: %v", age)
		}
		w.store.SetHead(1, nil)
		w.pass(enough)
		if age := least(); age > 2*longestPoll {
			w.Errorf("while one is lost: %v", age)
		}
		w.store.SetHead(0, nil)
		w.pass(enough)
		if age := least(); age < enough-2*longestPoll {
			w.Errorf("while both are lost: %v", age)
		}
		w.store.RollBack(whole)
		w.pass(enough)
		w.faults(storetest.Faults{Down: errors.New("connection refused")})
		w.pass(enough)
		if age := least(); age < enough-2*longestPoll {
			w.Errorf("while nothing answers: %v", age)
		}
		w.faults(storetest.Faults{})
		w.pass(enough)
		if age := least(); age > 2*longestPoll {
			w.Errorf("when it answers again: %v", age)
		}
		for partition := range 2 {
			w.store.Adopt(partition)
		}
		w.pass(enough)
		if age, some := w.r.LeastAge(time.Now()); some {
			w.Errorf("while both wait to be healed: %v", age)
		}
	})
}
