package replica_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/testkit/storetest"
)

// TestReachedAndLinkAt: Reached and LinkAt answer without a read, for cursors that are past, to come, or
// lost.
func TestReachedAndLinkAt(t *testing.T) {
	simulate(t, 2, func(w *world) {
		app := w.fill(0, 3)[0]
		w.startLoaded()
		made := w.commit(app, storetest.SetState("second", policy.Revoked))
		w.pass(time.Second)
		w.store.ResetCalls()
		elsewhere := made.Cursor
		elsewhere.Tag = record.NewTag()
		for name, tt := range map[string]struct {
			at      record.Cursor
			reached bool
			err     error
		}{
			"now": {made.Cursor, true, nil},
			"before": {
				record.Cursor{Epoch: 1, Revision: made.Cursor.Revision - 1, Tag: tagOf(w, made.Cursor.Revision-1)},
				true, nil,
			},
			"later":        {record.Cursor{Epoch: 1, Revision: made.Cursor.Revision + 1}, false, nil},
			"in its place": {elsewhere, false, replica.ErrLost},
		} {
			if reached, err := w.r.Reached(0, tt.at); reached != tt.reached || !errors.Is(err, tt.err) {
				w.Errorf("%s: %t, %v", name, reached, err)
			}
		}
		if raw, held := w.r.LinkAt(0, made.Cursor); !held || string(raw) != string(made.Link) {
			w.Errorf("link of the last change: %t", held)
		}
		for _, at := range []record.Cursor{
			elsewhere,
			{Epoch: 1, Revision: made.Cursor.Revision + 1},
			{Epoch: 1},
			{Epoch: 2, Revision: made.Cursor.Revision, Tag: made.Cursor.Tag},
		} {
			if _, held := w.r.LinkAt(0, at); held {
				w.Errorf("a link of %v", at)
			}
		}
		if calls := w.store.Calls(); calls.Tails[0] != 0 {
			w.Errorf("%d reads", calls.Tails[0])
		}
		if w.r.Torn(0) {
			w.Error("torn")
		}
	})
}

// lateHeads is a source that can delay the answers to polls.
type lateHeads struct {
	replica.Source
	late atomic.Bool
}

func (s *lateHeads) Heads(ctx context.Context) ([]replica.HeadRead, error) {
	heads, err := s.Source.Heads(ctx)
	if s.late.Load() {
		time.Sleep(time.Second)
	}
	return heads, err
}

// TestB20_LateLookIsNoFork: a late answer to a poll denies nothing when a later read has shown more. That
// happens on a busy machine.
func TestB20_LateLookIsNoFork(t *testing.T) {
	simulate(t, 2, func(w *world) {
		app := w.fill(0, 3)[0]
		source := &lateHeads{Source: w.store}
		w.source = source
		w.startLoaded()
		w.faults(storetest.Faults{Hint: deaf})
		source.late.Store(true)
		w.pass(longestPoll) // a poll has begun
		for range 3 {
			made := w.commit(app, storetest.SetState("second", policy.Revoked))
			if _, err := w.reach(made.Cursor, time.Second); err != nil {
				w.Fatal(err)
			}
			for range 20 {
				w.pass(100 * time.Millisecond)
				if w.r.Forked(0) {
					w.Fatalf("forked:\n%s", w.log)
				}
			}
		}
		w.mustEqualStore()
	})
}
