package replica_test

import (
	"errors"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/testkit/storetest"
)

// lacking returns how many entries the replica lacks of those that lead to the end of a partition's log without a gap: of the latest
// ones, as many as a history keeps.
func (w *world) lacking(partition int) (n int) {
	held := map[string]bool{}
	for _, raw := range w.r.Links(partition) {
		held[string(raw)] = true
	}
	log, next := w.store.Log(partition), w.store.Head(partition).Cursor
	for i := len(log) - 1; i >= max(len(log)-replica.HistoryLength, 0); i-- {
		at, previous, ok := w.open(partition, log[i])
		if !ok || at != next {
			break
		}
		if next = previous; !held[string(log[i].Data)] {
			n++
		}
	}
	return n
}

// open returns the places of an entry of a log and of the one before it; false when it does not verify.
func (w *world) open(partition int, e replica.RawLink) (at, previous record.Cursor, ok bool) {
	if e.EpochStart {
		start, err := w.store.Codec().OpenEpoch(partition, e.Data)
		return start.Cursor, start.Previous, err == nil
	}
	link, err := w.store.Codec().OpenLink(partition, e.Data)
	if err != nil {
		return at, previous, false
	}
	return link.Cursor, link.Previous(), true
}

// TestB30_FreshReplicaSuppliesWhatLiesBehindAnOperatorsEpoch, whose revisions begin far above the end of the one before: if the store
// is wiped, no process may be left that has seen the changes itself. A change that is not in the store's past is told from one that is.
func TestB30_FreshReplicaSuppliesWhatLiesBehindAnOperatorsEpoch(t *testing.T) {
	for name, operators := range map[string]int{"one": 1, "several": 5} {
		t.Run(name, func(t *testing.T) {
			simulate(t, 1, func(w *world) {
				apps := w.fill(0, 3)
				old := w.store.Commit(apps[1], storetest.AddToken("old")).Cursor
				w.store.Commit(apps[1], storetest.AddToken("newer"))
				for range operators {
					w.store.Adopt(0)
					w.store.NewEpoch(0)
					w.store.Commit(apps[2], storetest.SetState("second", policy.Disabled))
				}
				w.store.ResetCalls()
				w.startLoaded()
				w.mustEqualStore()
				if n := w.lacking(0); n > 0 {
					t.Errorf("%d entries of the log are not held", n)
				}
				if _, err := w.reach(old, time.Second); err != nil {
					t.Errorf("a change of the past: %v", err)
				}
				forked := old
				forked.Tag[3]++
				if _, err := w.reach(forked, time.Second); !errors.Is(err, replica.ErrLost) {
					t.Errorf("a change on a fork of the past: %v", err)
				}
				// Every jump costs a read, and no poll costs one once all is read.
				tails := w.store.Calls().Tails[0]
				w.pass(enough)
				if after := w.store.Calls().Tails[0]; tails > 2*operators+10 || after != tails {
					t.Errorf("the log was read %d times, and %d times more", tails, after-tails)
				}
			})
		})
	}
}

// TestB30_PastIsReadAsFarAsItGoes: to the length of a history across jumps, and to the beginning of a log that was trimmed, or to a
// hole in it.
func TestB30_PastIsReadAsFarAsItGoes(t *testing.T) {
	long := func(w *world, n int) {
		for i := range n {
			w.store.Commit(w.store.App(0, 2), storetest.SetState("second", policy.Active+state(i)))
		}
	}
	for name, tt := range map[string]struct {
		make func(w *world)
		want func(log int) int
	}{
		"long epochs": {
			make: func(w *world) {
				long(w, replica.HistoryLength)
				w.store.NewEpoch(0)
				long(w, 200)
				w.store.NewEpoch(0)
				long(w, 3)
			},
			want: func(int) int { return replica.HistoryLength },
		},
		"trimmed before the jump": {
			make: func(w *world) { w.store.NewEpoch(0); long(w, 3); w.store.Trim(0, 6) },
			want: func(int) int { return 6 },
		},
		"trimmed at the jump": {
			make: func(w *world) { w.store.NewEpoch(0); long(w, 3); w.store.Trim(0, 4) },
			want: func(int) int { return 4 },
		},
		"a hole before the jump": {
			make: func(w *world) {
				w.store.SetLink(0, w.store.Log(0)[2].Revision, []byte("garbage"))
				w.store.NewEpoch(0)
				long(w, 3)
			},
			want: func(log int) int { return log - 3 },
		},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, 1, func(w *world) {
				w.fill(0, 3)
				tt.make(w)
				w.startLoaded()
				w.pass(enough)
				w.mustBeFresh(0)
				want, got := tt.want(len(w.store.Log(0))), len(w.r.Links(0))
				if got < want || got > want+replica.HistorySlack || want < replica.HistoryLength && got != want {
					t.Errorf("%d entries are held, want %d", got, want)
				}
			})
		})
	}
}
