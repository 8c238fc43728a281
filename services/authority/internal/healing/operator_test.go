package healing

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/services/store"
)

// TestB30_AnEpochThatOnlyTheStoreKnowsOfIsWaitedFor: a replica that has not reached an operator's epoch does
// not know it. The store reports the epoch, and the validators then have the same time to report.
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
		time.Sleep(2*awaitInterval + checkInterval + tryInterval)
		if calls := f.made(); len(calls) != 2 || f.isFrozen(7) {
			t.Fatalf("afterwards: %+v; frozen: %t\n%s", calls, f.isFrozen(7), log)
		}
	})
}

// TestB30_WhatNobodyHasSeenIsNotMadeFromTheFirstReports: an authority that starts over a wiped store knows
// neither the changes of a partition nor who has them. It waits until unlisted validators have had time to
// report. It does not wait when it has seen the partition itself, since it then knows what is missing.
func TestB30_WhatNobodyHasSeenIsNotMadeFromTheFirstReports(t *testing.T) {
	const lease = 10 * time.Second
	for name, tt := range map[string]struct {
		own    record.Cursor
		healed time.Duration
	}{
		"nothing was seen":          {healed: lease},
		"the partition was loaded":  {own: record.Cursor{Epoch: 1, Revision: 1}, healed: 2 * checkInterval},
		"a new partition was empty": {own: record.Cursor{Epoch: 1}, healed: 2 * checkInterval},
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
					t.Errorf("healed after %v, want %v\n%s", took, tt.healed, log)
				}
			})
		})
	}
}
