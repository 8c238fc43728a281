package replica_test

import (
	"bytes"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/testkit/storetest"
)

func TestFollowsHintsAtOnce(t *testing.T) {
	simulate(t, 2, func(w *world) {
		app := w.fill(0, 3)[0]
		w.startLoaded()
		began := time.Now()
		w.store.ResetCalls()
		for range 20 {
			w.commit(app, storetest.SetState("second", policy.Disabled))
			w.commit(app, storetest.SetState("second", policy.Active))
			w.commit(w.store.App(0, 10), storetest.AddToken(time.Now().String()+string(rune('a'+len(w.store.Log(0))))))
			w.mustEqualStore()
		}
		if took := time.Since(began); took != 0 {
			w.Errorf("took %v", took)
		}
		if calls := w.store.Calls(); calls.Tails[0]+calls.Documents[0]+calls.Heads != 0 {
			w.Errorf("read the store: %+v", calls)
		}
		w.pass(enough)
		w.mustEqualStore()
		w.mustBeFresh(0)
	})
}

// TestLostHintsAreMadeUpForWithinAPoll: a poll finds changes whose hints were lost, without loading a whole
// partition.
func TestLostHintsAreMadeUpForWithinAPoll(t *testing.T) {
	simulate(t, 2, func(w *world) {
		app := w.fill(0, 3)[0]
		w.startLoaded()
		w.faults(storetest.Faults{Hint: func(int, []byte) [][]byte { return nil }})
		w.store.ResetCalls()
		w.commit(app, storetest.SetState("second", policy.Revoked))
		if w.tokens(app)["second"] == policy.Revoked {
			w.Error("the hint was not lost")
		}
		w.pass(longestPoll + 4*latency)
		w.mustEqualStore()
		w.mustBeFresh(0)
		if calls := w.store.Calls(); calls.Documents[0] > 0 || calls.Tails[0] > 2 {
			w.Errorf("read too much for one lost hint: %+v", calls)
		}
	})
}

// TestLaterHintUncoversALostOne at once, before the next poll.
func TestLaterHintUncoversALostOne(t *testing.T) {
	simulate(t, 2, func(w *world) {
		app := w.fill(0, 3)[0]
		w.startLoaded()
		w.faults(storetest.Faults{Hint: func(int, []byte) [][]byte { return nil }})
		w.commit(app, storetest.SetState("second", policy.Revoked))
		w.faults(storetest.Faults{})
		w.store.ResetCalls()
		w.commit(app, storetest.AddToken("third"))
		w.pass(2 * latency)
		w.mustEqualStore()
		if calls := w.store.Calls(); calls.Documents[0] > 0 || calls.Tails[0] != 1 {
			w.Errorf("reads for one gap: %+v", calls)
		}
	})
}

func TestRepeatedAndReorderedHintsAreHarmless(t *testing.T) {
	simulate(t, 2, func(w *world) {
		apps := w.fill(0, 3)
		w.startLoaded()
		var all [][]byte
		w.faults(storetest.Faults{Hint: func(_ int, raw []byte) [][]byte {
			all = append(all, raw)
			hints := [][]byte{raw, raw}
			for i := range all { // and then every hint since the beginning, in reverse
				hints = append(hints, all[len(all)-1-i])
			}
			return append(hints, raw)
		}})
		w.store.ResetCalls()
		for i := range 10 {
			w.commit(apps[i%3], storetest.AddToken(string(rune('a'+i))))
			w.mustEqualStore()
		}
		if calls := w.store.Calls(); calls.Documents[0]+calls.Tails[0] != 0 {
			w.Errorf("read the store for hints that it knew: %+v", calls)
		}

		// Hints that were delayed and arrive in the wrong order cost one read.
		var held [][]byte
		w.faults(storetest.Faults{Hint: func(_ int, raw []byte) [][]byte { held = append(held, raw); return nil }})
		for i := range 5 {
			w.commit(apps[i%3], storetest.SetState(string(rune('a'+i)), policy.Revoked))
		}
		slices.Reverse(held)
		for _, raw := range held {
			w.store.Publish(0, raw)
		}
		w.pass(2 * latency)
		w.mustEqualStore()
		w.pass(enough)
		if n := w.log.count("ERROR"); n > 0 {
			w.Errorf("%d errors:\n%s", n, w.log)
		}
	})
}

// TestGarbageHintsChangeNothing, whichever partition they claim.
func TestGarbageHintsChangeNothing(t *testing.T) {
	simulate(t, 2, func(w *world) {
		app := w.fill(0, 3)[0]
		w.fill(1, 3)
		w.startLoaded()
		next := w.store.Predict(app, storetest.SetState("second", policy.Revoked))
		flipped := bytes.Clone(next.Link)
		flipped[len(flipped)-1] ^= 1
		hints := [][]byte{nil, {}, []byte("garbage"), next.Link[:20], flipped, next.Document, next.Head, w.store.RawHead(1)}
		for _, raw := range hints {
			for _, partition := range []int{-1, 0, 1, 2, 1 << 30} {
				w.store.Publish(partition, raw)
			}
		}
		w.store.Publish(1, next.Link) // a valid hint of another partition
		synctest.Wait()
		w.mustEqualStore()
		w.pass(enough)
		w.mustEqualStore()
		w.mustBeFresh(0)
		if calls := w.store.Calls(); calls.Documents[0] != 1 {
			w.Errorf("garbage made it read everything: %+v", calls)
		}
		w.commit(app, storetest.SetState("second", policy.Disabled))
		w.mustEqualStore()
	})
}

// TestBrokenSubscriptionIsMadeAnew: a broken subscription is replaced, and the next poll finds what was
// published meanwhile.
func TestBrokenSubscriptionIsMadeAnew(t *testing.T) {
	simulate(t, 2, func(w *world) {
		app := w.fill(0, 3)[0]
		w.startLoaded()
		w.store.ResetCalls()
		w.store.CutWatches()
		synctest.Wait()
		w.commit(app, storetest.SetState("second", policy.Revoked))
		w.pass(longestPoll + 4*latency)
		w.mustEqualStore()
		if calls := w.store.Calls(); calls.Watches != 1 {
			w.Errorf("%d subscriptions after one was cut", calls.Watches)
		}
		w.commit(app, storetest.SetState("second", policy.Disabled))
		w.mustEqualStore()
	})
}

// TestBrokenSubscriptionIsNotHammered: the replica backs off while the store refuses subscriptions.
func TestBrokenSubscriptionIsNotHammered(t *testing.T) {
	simulate(t, 2, func(w *world) {
		w.fill(0, 3)
		w.startLoaded()
		w.faults(storetest.Faults{Step: func(step storetest.Step, _ int) error {
			if step == storetest.WatchStart {
				return errRefused
			}
			return nil
		}})
		w.store.CutWatches()
		w.store.ResetCalls()
		w.log.clear()
		w.pass(time.Minute)
		if calls := w.store.Calls(); calls.Watches > 40 || calls.Watches < 10 {
			w.Errorf("%d tries in a minute", calls.Watches)
		}
		if n := w.log.count("WARN"); n > 40 {
			w.Errorf("%d warnings in a minute", n)
		}
		w.mustBeFresh(0)
	})
}

// TestOfferAppliesWhatItsCallerHasCommitted, and does no harm with any other input.
func TestOfferAppliesWhatItsCallerHasCommitted(t *testing.T) {
	simulate(t, 2, func(w *world) {
		app := w.fill(0, 3)[0]
		w.startLoaded()
		w.faults(storetest.Faults{Hint: func(int, []byte) [][]byte { return nil }})
		made := w.commit(app, storetest.SetState("second", policy.Revoked))
		w.r.Offer(0, made.Link)
		w.mustEqualStore()
		w.r.Offer(0, made.Link)
		w.r.Offer(0, nil)
		w.r.Offer(1, made.Link)
		w.mustEqualStore()
		w.pass(enough)
		w.mustEqualStore()
	})
}

// TestHintsBeforeTheFirstLoadAreNotLost: they make the worker read, and the load contains their changes.
func TestHintsBeforeTheFirstLoadAreNotLost(t *testing.T) {
	simulate(t, 1, func(w *world) {
		app := w.fill(0, 3)[0]
		var committed atomic.Bool
		w.faults(storetest.Faults{Step: func(step storetest.Step, _ int) error {
			if step == storetest.ScanEnd && committed.CompareAndSwap(false, true) {
				w.store.Commit(app, storetest.SetState("second", policy.Revoked))
			}
			return nil
		}})
		w.start()
		w.mustLoad()
		if !committed.Load() {
			w.Fatal("the load did not scan")
		}
		w.mustEqualStore()
	})
}

// TestSignedHintThatDoesNotContinueIsNotFollowed: a signed hint is ignored when it is from another branch,
// leaves out a revision, or is from another epoch.
func TestSignedHintThatDoesNotContinueIsNotFollowed(t *testing.T) {
	simulate(t, 1, func(w *world) {
		app := w.fill(0, 3)[0]
		w.startLoaded()
		at := w.position(0)
		link, err := w.store.Codec().OpenLink(0, w.store.Predict(app, storetest.SetState("second", policy.Revoked)).Link)
		if err != nil {
			w.Fatal(err)
		}
		for name, change := range map[string]func(l *record.Link){
			"another turn":         func(l *record.Link) { l.PreviousTag[0] ^= 1 },
			"the change of before": func(l *record.Link) { l.Revision-- },
			"a revision left out":  func(l *record.Link) { l.Revision++ },
			"far ahead":            func(l *record.Link) { l.Revision += 1000 },
			"an earlier epoch":     func(l *record.Link) { l.Epoch-- },
			"a later epoch":        func(l *record.Link) { l.Epoch++ },
		} {
			other := *link
			change(&other)
			if other.Epoch == 0 {
				other.Epoch = 7
			}
			raw, err := w.store.Codec().SealLink(&other)
			if err != nil {
				w.Fatal(err)
			}
			w.store.Publish(0, raw)
			synctest.Wait()
			if w.position(0) != at || w.tokens(app)["second"] != policy.Active {
				w.Errorf("%s was followed, to %v", name, w.position(0))
			}
			w.pass(longestPoll)
			w.mustEqualStore()
		}
	})
}

// TestHintThatContradictsIsLookedIntoAtOnce: two hints with the same revision and different tags cause a read
// at once.
func TestHintThatContradictsIsLookedIntoAtOnce(t *testing.T) {
	simulate(t, 1, func(w *world) {
		apps := w.fill(0, 3)
		w.startLoaded()
		w.phantom(apps[0], storetest.SetState("second", policy.Revoked))
		w.commit(apps[1], storetest.SetState("second", policy.Revoked))
		w.pass(20 * latency)
		w.mustEqualStore()
	})
}
