package healing

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersign/countersign/services/authority/store"
)

// TestB30_AnEpochThatOnlyTheStoreKnowsOfIsWaitedFor: a replica that has not come to an operator's epoch knows nothing of it.
// The store does, and says so; the validators then have the same time to report.
func TestB30_AnEpochThatOnlyTheStoreKnowsOfIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _, log := healer(t, func(f *fake) func(context.Context, int) (store.Healed, error) {
			heal := mends(f)
			return func(ctx context.Context, partition int) (store.Healed, error) {
				calls := f.made()
				if calls[len(calls)-1].waited != 6 {
					return store.Healed{}, &store.NotAwaitedError{Epoch: 6}
				}
				return heal(ctx, partition)
			}
		})
		const reports = 4 * time.Second
		f.set(func() {
			f.forked[7] = true
			f.silent = map[string]time.Time{"validator-1": time.Now().Add(reports)}
		})
		time.Sleep(reports - time.Millisecond)
		if calls := f.made(); len(calls) != 1 || !f.isFrozen(7) {
			t.Fatalf("before the validator has reported: %+v; frozen: %t", calls, f.isFrozen(7))
		}
		time.Sleep(2*awaitInterval + lookInterval + tryInterval)
		if calls := f.made(); len(calls) != 2 || f.isFrozen(7) {
			t.Fatalf("afterwards: %+v; frozen: %t\n%s", calls, f.isFrozen(7), log)
		}
	})
}
