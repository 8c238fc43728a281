package replica_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/testkit/storetest"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// lacking returns how many log entries the replica lacks. It counts the latest entries that lead to the end
// of the partition's log without a gap, at most as many as a history keeps.
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

// open returns the cursors of a log entry and of the entry before it; false when it does not verify.
func (w *world) open(partition int, e record.RawEntry) (at, previous record.Cursor, ok bool) {
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

// TestB30_FreshReplicaSuppliesWhatLiesBehindAnOperatorsEpoch: a fresh replica reads the history before an
// operator's epoch, whose revisions begin far above the earlier end. If the store is wiped, no other process
// may have seen those changes. It also recognises a change that is not in the store's past.
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
				// Every jump costs a read. Once everything is read, polls cost none.
				tails := w.store.Calls().Tails[0]
				w.pass(enough)
				if after := w.store.Calls().Tails[0]; tails > 2*operators+10 || after != tails {
					t.Errorf("the log was read %d times, and %d times more", tails, after-tails)
				}
			})
		})
	}
}

// TestB30_PastIsReadAsFarAsItGoes: up to the length of a history, across jumps, to the beginning of a trimmed
// log, or to a gap in it.
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

// healFromNothing leaves a partition as the healing of a wiped store does: the same documents, and a log that
// begins with an epoch on an empty store, which settles all that was brought back.
func (w *world) healFromNothing(partition int) {
	w.Helper()
	var settled []record.Tag
	for _, raw := range w.store.Log(partition) {
		if link, err := w.store.Codec().OpenLink(partition, raw.Data); err == nil {
			settled = append(settled, link.Tag)
		}
	}
	w.store.NewEpoch(partition)
	start := record.EpochStart{
		Cursor: w.store.Head(partition).Cursor, Cause: countersignv1.EpochCause_EPOCH_CAUSE_HEALED, Settled: settled,
	}
	raw, err := w.store.Codec().SealEpoch(partition, start)
	if err != nil {
		w.Fatal(err)
	}
	w.store.SetLog(partition, []record.RawEntry{{Revision: start.Revision, Data: raw, EpochStart: true}})
}

// TestB08_ForkOfAReplicaThatWasAwayOutlastsAWipe: a failover lost changes that only one replica has. The
// others went past their revisions in the same epoch. Then the store was wiped and healed from the others.
// Nothing lies before such a log, so the changes were not settled: the replica that has them keeps them as
// orphans.
func TestB08_ForkOfAReplicaThatWasAwayOutlastsAWipe(t *testing.T) {
	for name, tt := range map[string]struct {
		lost  bool // a failover loses the changes
		renew func(w *world)
		want  int
	}{
		"healed with the log whole": {lost: true, renew: func(w *world) { w.store.NewEpoch(0) }, want: 2},
		"wiped":                     {lost: true, renew: func(w *world) { w.healFromNothing(0) }, want: 2},
		"wiped, and more epochs since": {
			lost:  true,
			renew: func(w *world) { w.healFromNothing(0); w.store.Adopt(0); w.store.NewEpoch(0) }, want: 2,
		},
		"wiped, and nothing was lost":   {renew: func(w *world) { w.healFromNothing(0) }},
		"a new epoch, nothing was lost": {renew: func(w *world) { w.store.NewEpoch(0) }},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, 1, func(w *world) {
				apps := w.fill(0, 3)
				w.startLoaded()
				before := w.store.Save()
				disabled := w.commit(apps[1], storetest.SetState("first", policy.Disabled)).Cursor.Tag
				enforced := w.commit(apps[1], storetest.Enforce(sessions)).Cursor.Tag
				w.pass(2 * longestPoll)
				away := w.keep()
				w.stop()
				if tt.lost {
					w.store.RollBack(before)
				}
				for i := range 5 {
					w.store.Commit(apps[2], storetest.SetState("second", policy.Active+state(i)))
				}
				tt.renew(w)
				w.startFrom(away)
				w.pass(enough)
				w.mustEqualStore()
				held := w.r.Orphans(0)
				if len(held) != tt.want || tt.want > 0 && !slices.Equal(held, []record.Tag{disabled, enforced}) {
					t.Errorf("held on to are %x, want the %d that were lost\n%s", held, tt.want, w.log)
				}
				if w.r.Forked(0) != (tt.want > 0) {
					t.Errorf("a healing is asked for: %t", w.r.Forked(0))
				}
			})
		})
	}
}
