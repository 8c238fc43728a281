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

// reach calls Reach with a limit and returns how long it took and what came of it.
func (w *world) reach(target record.Cursor, limit time.Duration) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(w.Context(), limit)
	defer cancel()
	began := time.Now()
	err := w.r.Reach(ctx, 0, target)
	return time.Since(began), err
}

func TestB25_ReachWaitsForTheChangeAndNoLonger(t *testing.T) {
	simulate(t, 2, func(w *world) {
		app := w.fill(0, 3)[0]
		w.startLoaded()
		w.faults(storetest.Faults{Hint: deaf})
		made := w.commit(app, storetest.SetState("second", policy.Revoked))
		if took, err := w.reach(made.Cursor, time.Second); err != nil || took > 4*latency {
			w.Errorf("a change that the store has: %v after %v", err, took)
		}
		if w.tokens(app)["second"] != policy.Revoked {
			w.Error("reached, but not there")
		}
		for _, target := range []record.Cursor{made.Cursor, {Epoch: 1, Revision: made.Cursor.Revision - 1, Tag: tagOf(w, made.Cursor.Revision-1)}} {
			if took, err := w.reach(target, time.Second); err != nil || took != 0 {
				w.Errorf("a change that is there: %v after %v", err, took)
			}
		}
		// One that comes while Reach waits.
		later := make(chan storetest.Commit, 1)
		ahead := w.store.Predict(app, storetest.AddToken("third")).Cursor
		go func() {
			time.Sleep(100 * time.Millisecond)
			later <- w.store.Commit(app, storetest.AddToken("third"))
		}()
		if took, err := w.reach(ahead, time.Second); !errors.Is(err, replica.ErrLost) || took > 150*time.Millisecond {
			w.Errorf("a change in whose place another came: %v after %v", err, took)
		}
		<-later
	})
}

// tagOf returns the tag of a revision of partition 0.
func tagOf(w *world, revision uint64) record.Tag {
	for _, raw := range w.store.Log(0) {
		if raw.Revision == revision {
			link, err := w.store.Codec().OpenLink(0, raw.Data)
			if err != nil {
				w.Fatal(err)
			}
			return link.Tag
		}
	}
	w.Fatalf("no revision %d", revision)
	return record.Tag{}
}

func TestB25_ReachOfWhatNeverComesEndsAtTheDeadline(t *testing.T) {
	simulate(t, 2, func(w *world) {
		w.fill(0, 3)
		w.startLoaded()
		at := w.position(0)
		for name, target := range map[string]record.Cursor{
			"a later revision": {Epoch: 1, Revision: at.Revision + 5, Tag: record.Tag{1}},
			"a later epoch":    {Epoch: 2, Revision: 1, Tag: record.Tag{1}},
			"far away":         {Epoch: 1 << 63, Revision: 1 << 63, Tag: record.Tag{1}},
		} {
			if took, err := w.reach(target, time.Second); !errors.Is(err, replica.ErrNotReached) || took != time.Second {
				w.Errorf("%s: %v after %v", name, err, took)
			}
		}
	})
}

// TestB25_ReachOfAChangeThatIsNotInThePastIsLost: other tags under revisions that are known.
func TestB25_ReachOfAChangeThatIsNotInThePastIsLost(t *testing.T) {
	simulate(t, 2, func(w *world) {
		app := w.fill(0, 3)[0]
		w.startLoaded()
		for range 5 {
			w.commit(app, storetest.SetState("second", policy.Disabled))
		}
		w.pass(longestPoll + 2*latency)
		at := w.position(0)
		for _, back := range []uint64{0, 1, 4} {
			target := record.Cursor{Epoch: 1, Revision: at.Revision - back, Tag: record.Tag{1}}
			if took, err := w.reach(target, time.Second); !errors.Is(err, replica.ErrLost) || took != 0 {
				w.Errorf("another change at %v: %v after %v", target, err, took)
			}
		}
		// One that was only hinted is asked for first.
		w.commit(app, storetest.SetState("second", policy.Active))
		target := record.Cursor{Epoch: 1, Revision: at.Revision + 1, Tag: record.Tag{1}}
		if took, err := w.reach(target, time.Second); !errors.Is(err, replica.ErrLost) || took == 0 || took > 2*replica.ReadInterval {
			w.Errorf("another change at a hint: %v after %v", err, took)
		}
	})
}

// TestB25_ChangeIsNotLostWhenAPhantomStandsInItsPlace: what came by a hint and was never confirmed says nothing about
// the store's past. The store has the change, so it is reached.
func TestB25_ChangeIsNotLostWhenAPhantomStandsInItsPlace(t *testing.T) {
	simulate(t, 1, func(w *world) {
		apps := w.fill(0, 3)
		w.startLoaded()
		lost := w.phantom(apps[0], storetest.SetState("second", policy.Revoked))
		w.faults(storetest.Faults{Hint: deaf})
		made := w.store.Commit(apps[1], storetest.SetState("second", policy.Revoked))
		if lost.Cursor.Revision != made.Cursor.Revision || w.position(0) != lost.Cursor {
			w.Fatal("the two do not compete")
		}
		if took, err := w.reach(made.Cursor, time.Second); err != nil || took > 2*replica.ReadInterval {
			w.Errorf("%v after %v", err, took)
		}
		w.mustEqualStore()
		if _, err := w.reach(lost.Cursor, time.Second); !errors.Is(err, replica.ErrLost) {
			w.Errorf("the phantom: %v", err)
		}
	})
}

// TestB25_ReachBeforeTheFirstLoadWaitsForIt.
func TestB25_ReachBeforeTheFirstLoadWaitsForIt(t *testing.T) {
	simulate(t, 1, func(w *world) {
		w.fill(0, 3)
		w.faults(storetest.Faults{Down: errRefused})
		w.start()
		at := w.store.Head(0).Cursor
		if took, err := w.reach(at, time.Second); !errors.Is(err, replica.ErrNotReached) || took != time.Second {
			w.Errorf("%v after %v", err, took)
		}
		go func() {
			time.Sleep(time.Second)
			w.faults(storetest.Faults{})
		}()
		if _, err := w.reach(at, enough); err != nil {
			w.Error(err)
		}
		w.mustEqualStore()
	})
}

// TestConfirmCountsOnlyReadsThatWereSentAfterTheCall.
func TestConfirmCountsOnlyReadsThatWereSentAfterTheCall(t *testing.T) {
	simulate(t, 2, func(w *world) {
		app := w.fill(0, 3)[0]
		w.startLoaded()
		w.faults(storetest.Faults{Hint: deaf})
		confirm := func(limit time.Duration) (time.Duration, error) {
			ctx, cancel := context.WithTimeout(w.Context(), limit)
			defer cancel()
			began := time.Now()
			err := w.r.Confirm(ctx)
			return time.Since(began), err
		}
		w.pass(time.Millisecond)
		if took, err := confirm(time.Second); err != nil || took != 2*latency {
			w.Errorf("%v after %v, want nothing but one read of heads", err, took)
		}
		w.pass(time.Millisecond)
		w.store.Commit(app, storetest.SetState("second", policy.Revoked))
		if took, err := confirm(time.Second); err != nil || took > 6*latency {
			w.Errorf("%v after %v", err, took)
		}
		w.mustEqualStore()

		// A read that is under way when Confirm is called may have looked before.
		var sent atomic.Bool
		slow := 500 * time.Millisecond
		w.faults(storetest.Faults{Hint: deaf, Latency: func() time.Duration { sent.Store(true); return slow }})
		for !sent.Load() {
			w.pass(time.Millisecond)
		}
		w.pass(slow + time.Millisecond) // the store has been read, the answer is on its way
		if took, err := confirm(5 * time.Second); err != nil || took < 2*slow {
			w.Errorf("%v after %v, want a read of its own, which takes %v", err, took, 2*slow)
		}

		w.faults(storetest.Faults{Down: errRefused})
		if took, err := confirm(time.Second); !errors.Is(err, replica.ErrNotReached) || took != time.Second {
			w.Errorf("store down: %v after %v", err, took)
		}
		w.faults(storetest.Faults{})
		w.store.SetHead(1, nil)
		if _, err := confirm(time.Second); !errors.Is(err, replica.ErrNotReached) {
			w.Errorf("one partition without a head: %v", err)
		}
	})
}
