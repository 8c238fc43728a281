package healing

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/services/store"
)

// TestB30_AnEpochThatOnlyTheStoreKnowsOfIsWaitedFor: the replica has not reached an operator's epoch, so only
// the store reports the epoch. The healer then waits for the validators as it does for an epoch of the
// replica.
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
			t.Fatalf("before the validator has reported: got attempts %+v, frozen %t; want one, frozen", calls, f.isFrozen(7))
		}
		time.Sleep(2*awaitInterval + checkInterval + tryInterval)
		if calls := f.made(); len(calls) != 2 || f.isFrozen(7) {
			t.Fatalf("after the report: got attempts %+v, frozen %t; want two, not frozen\n%s", calls, f.isFrozen(7), log)
		}
	})
}

// TestB30_WhatNobodyHasSeenIsNotMadeFromTheFirstReports: an authority starts over a wiped store. It knows
// neither the changes of a partition nor the validators that have them. So it waits until unlisted validators
// have had a lease to report. It does not wait if it has seen the partition itself, since it then knows which
// changes are missing.
func TestB30_WhatNobodyHasSeenIsNotMadeFromTheFirstReports(t *testing.T) {
	const lease = 10 * time.Second
	for name, tt := range map[string]struct {
		own    record.Cursor
		healed time.Duration
	}{
		"the authority has seen nothing":             {healed: lease},
		"the authority has loaded the partition":     {own: record.Cursor{Epoch: 1, Revision: 1}, healed: 2 * checkInterval},
		"the authority has seen the partition empty": {own: record.Cursor{Epoch: 1}, healed: 2 * checkInterval},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, h, log := healer(t, mends)
				f.set(func() { f.own, f.strangers = tt.own, time.Now().Add(lease) })
				began := time.Now()
				for len(f.made()) == 0 && time.Since(began) < 2*lease {
					h.Notice(7)
					time.Sleep(checkInterval)
				}
				if took := time.Since(began); took < tt.healed-checkInterval || took > tt.healed+2*awaitInterval {
					t.Errorf("got the healing after %v, want %v\n%s", took, tt.healed, log)
				}
			})
		})
	}
}
