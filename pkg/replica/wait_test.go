package replica_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/testkit/storetest"
)

// reach calls Reach with a timeout. It returns how long the call took, and its result.
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
		for _, target := range []record.Cursor{
			made.Cursor,
			{Epoch: 1, Revision: made.Cursor.Revision - 1, Tag: tagOf(w, made.Cursor.Revision-1)},
		} {
			if took, err := w.reach(target, time.Second); err != nil || took != 0 {
				w.Errorf("a change that is there: %v after %v", err, took)
			}
		}
	})
}

// TestB25_ReachSeesWhatComesWhileItWaits: at the next poll, with a hint or without. Another change with the
// awaited revision counts only once a read has shown it.
func TestB25_ReachSeesWhatComesWhileItWaits(t *testing.T) {
	simulate(t, 2, func(w *world) {
		app := w.fill(0, 3)[0]
		w.startLoaded()
		const comes = 700 * time.Millisecond
		for name, faults := range map[string]storetest.Faults{"hint": {}, "lost hint": {Hint: deaf}} {
			w.faults(faults)
			next := w.position(0)
			next.Revision, next.Tag = next.Revision+1, record.Tag{1}
			later := make(chan storetest.Commit, 1)
			go func() {
				time.Sleep(comes)
				later <- w.store.Commit(app, storetest.AddToken(name))
			}()
			if took, err := w.reach(next, enough); !errors.Is(err, replica.ErrLost) || took > comes+longestPoll+8*latency {
				w.Errorf("%s: a change in whose place another came: %v after %v", name, err, took)
			}
			<-later
			w.pass(longestPoll)
		}
	})
}

// TestB25_MadeUpRevisionsCostNextToNothing counts reads of the store. Whatever callers ask for, each
// partition is read a few times while it does not change, and polled as always.
func TestB25_MadeUpRevisionsCostNextToNothing(t *testing.T) {
	const partitions, wait = 64, 5 * time.Second
	madeUp := func(w *world, partition, nth int) record.Cursor {
		at := w.position(partition)
		return record.Cursor{Epoch: at.Epoch, Revision: at.Revision + 1 + uint64(nth), Tag: record.Tag{1}}
	}
	begin := func(w *world) (apps []string) {
		for partition := range partitions {
			apps = append(apps, w.fill(partition, 1)...)
		}
		w.startLoaded()
		w.store.ResetCalls()
		return apps
	}
	ask := func(w *world, asking *sync.WaitGroup, partition, nth int, limit time.Duration) {
		target := madeUp(w, partition, nth)
		asking.Go(func() {
			ctx, cancel := context.WithTimeout(w.Context(), limit)
			defer cancel()
			if err := w.r.Reach(ctx, partition, target); !errors.Is(err, replica.ErrNotReached) {
				w.Errorf("a made-up revision: %v", err)
			}
		})
	}
	t.Run("one caller for each partition, who waits", func(t *testing.T) {
		simulate(t, partitions, func(w *world) {
			begin(w)
			var asking sync.WaitGroup
			for partition := range partitions {
				ask(w, &asking, partition, 0, wait)
			}
			asking.Wait()
			calls := w.store.Calls()
			for partition, tails := range calls.Tails {
				if tails > 1 {
					w.Errorf("partition %d was read %d times for one caller", partition, tails)
				}
			}
			if most := int(wait/(200*time.Millisecond)) + 1; calls.Heads > most {
				w.Errorf("%d polls in %v, want at most %d", calls.Heads, wait, most)
			}
		})
	})
	t.Run("a new caller every millisecond", func(t *testing.T) {
		simulate(t, partitions, func(w *world) {
			apps := begin(w)
			var asking sync.WaitGroup
			for i := range int(wait / time.Millisecond) {
				ask(w, &asking, 0, i, time.Second)
				w.pass(time.Millisecond)
			}
			// 10, 20, ... 320 ms, and then one in 640 ms.
			if tails := w.store.Calls().Tails[0]; tails < 2 || tails > 7+int(wait/(640*time.Millisecond)) {
				w.Errorf("read %d times in %v", tails, wait)
			}

			// Meanwhile a real change is reached as fast as ever, and resets the pauses.
			app := apps[0]
			made := w.commit(app, storetest.AddToken("meanwhile"))
			if took, err := w.reach(made.Cursor, time.Second); err != nil || took > 4*latency {
				w.Errorf("a real change among made-up ones: %v after %v", err, took)
			}
			// Without its hint it takes at most a poll.
			w.faults(storetest.Faults{Hint: deaf})
			ask(w, &asking, 0, 1000, time.Second)
			made = w.commit(app, storetest.AddToken("unheard of"))
			if took, err := w.reach(made.Cursor, time.Second); err != nil || took > longestPoll+8*latency {
				w.Errorf("a real change without a hint: %v after %v", err, took)
			}
			asking.Wait()

			// After a quiet time, the next caller is read for at once.
			w.pass(time.Second)
			made = w.commit(app, storetest.AddToken("later"))
			if took, err := w.reach(made.Cursor, time.Second); err != nil || took > 4*latency {
				w.Errorf("a change after the made-up ones: %v after %v", err, took)
			}
		})
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

// TestB25_ReachOfAChangeThatIsNotInThePastIsLost: other tags with known revisions.
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
		// For a revision that is only hinted, the store is asked first.
		w.commit(app, storetest.SetState("second", policy.Active))
		target := record.Cursor{Epoch: 1, Revision: at.Revision + 1, Tag: record.Tag{1}}
		if took, err := w.reach(target, time.Second); !errors.Is(err, replica.ErrLost) || took == 0 ||
			took > 2*replica.ReadInterval {
			w.Errorf("another change at a hint: %v after %v", err, took)
		}
	})
}

// TestB25_ChangeIsNotLostWhenAPhantomStandsInItsPlace: an unconfirmed hint proves nothing about the store's
// past. The store has the change, so it is reached.
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

// TestB25_ReachBeforeTheFirstLoadWaitsForIt: Reach waits until the partition is loaded.
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

// TestConfirmCountsOnlyReadsThatWereSentAfterTheCall: an earlier read does not count.
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

		// A read that is under way when Confirm is called may have been answered before.
		var sent atomic.Bool
		slow := 500 * time.Millisecond
		w.faults(storetest.Faults{Hint: deaf, Latency: func() time.Duration { sent.Store(true); return slow }})
		for !sent.Load() {
			w.pass(time.Millisecond)
		}
		w.pass(slow + time.Millisecond) // the store has been read, and the answer is on its way
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
