package replica_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/testkit/storetest"
)

// TestReplicaUnderASuccessorRing: a ring with a new current key and the old one loads, follows, and compares
// with heads what either key has signed.
func TestReplicaUnderASuccessorRing(t *testing.T) {
	simulate(t, 2, func(w *world) {
		apps := w.fill(0, 3)
		w.startLoaded()
		kept := w.keep()
		w.store.Resign(storetest.Successor(t, w.store.Ring()))
		mismatches := func() uint64 { return w.r.Stats().DigestMismatches }

		w.startLoaded()
		w.mustEqualStore()
		w.commit(apps[1], storetest.SetState("second", policy.Revoked))
		w.commit(w.store.App(0, 20), storetest.AddToken("first"))
		w.commit(w.store.App(1, 0), storetest.AddToken("first"))
		w.pass(2 * longestPoll)
		w.mustEqualStore()
		w.mustBeFresh(0)
		if n := mismatches(); n != 0 {
			t.Errorf("%d digests do not match", n)
		}

		w.startLoaded()
		w.mustEqualStore()
		w.mustBeFresh(0)

		// It also continues from data that was exported under the old key alone.
		w.startFrom(kept)
		w.store.ResetCalls()
		w.pass(enough)
		w.mustEqualStore()
		w.mustBeFresh(0)
		if calls := w.store.Calls(); calls.Documents[0]+calls.Documents[1] != 0 || mismatches() != 0 {
			t.Errorf("%d digests do not match; all was read again: %+v", mismatches(), calls)
		}
	})
}

// TestHeadResealedUnderAnotherKey: a head whose digest uses another key than the replica's sum is compared
// all the same, whether it fits or not. Nothing is loaded for the comparison.
func TestHeadResealedUnderAnotherKey(t *testing.T) {
	simulate(t, 1, func(w *world) {
		w.fill(0, 3)
		w.store.Resign(storetest.Successor(t, w.store.Ring()))
		w.startLoaded()
		codec, head := w.store.Codec(), w.store.Head(0)
		sum := record.Sum{}
		for appID, d := range w.store.Truth(0) {
			sum = codec.Add(sum, 0, appID, d.Revision)
		}
		reseal := func(sealed record.SealedSum) {
			head.State = sealed
			raw, err := codec.SealHead(0, head)
			if err != nil {
				t.Fatal(err)
			}
			w.store.SetHead(0, raw)
			w.store.ResetCalls()
			w.pass(2 * longestPoll)
		}
		was := head.State.Key
		if reseal(codec.SealSum(0, sum)); head.State.Key == was {
			t.Fatal("it is sealed with the same key")
		}
		w.mustBeFresh(0)
		if n := w.r.Stats().DigestMismatches; n != 0 || w.store.Calls().Documents[0] != 0 {
			t.Errorf("%d digests do not match, loaded %d times", n, w.store.Calls().Documents[0])
		}
		if reseal(codec.SealSum(0, sum.Plus(sum))); w.r.Stats().DigestMismatches == 0 {
			t.Error("a digest of something else is believed")
		}
	})
}

// TestB20_ReplicaWithoutTheNewKey keeps the last good data, grows old, and counts unknown keys apart from
// forgery. With the key it follows again.
func TestB20_ReplicaWithoutTheNewKey(t *testing.T) {
	simulate(t, 1, func(w *world) {
		apps := w.fill(0, 3)
		old := w.store.Codec()
		w.startLoaded()
		next := storetest.Successor(t, w.store.Ring())
		w.store.Resign(next)
		w.store.Commit(apps[1], storetest.SetState("second", policy.Revoked))
		w.pass(enough)
		if w.tokens(apps[1])["second"] != policy.Active || !w.r.Loaded() || w.r.Forked(0) {
			t.Errorf("tokens %v, ready %v, forked %v", w.tokens(apps[1]), w.r.Loaded(), w.r.Forked(0))
		}
		if age, stale := w.r.Freshness(0, time.Now()); !stale || age < enough-time.Second {
			t.Errorf("age %v, stale %v", age, stale)
		}
		if s := w.r.Stats(); s.UnknownKeys == 0 || s.Quarantined != s.UnknownKeys {
			t.Errorf("%d records could not be verified, %d of them for their key", s.Quarantined, s.UnknownKeys)
		}
		w.stop()

		// A replica that starts without the key loads nothing.
		w.r = replica.New(w.source, old, slog.New(w.log))
		w.run()
		w.pass(enough)
		if w.r.Loaded() {
			t.Error("it is ready without the key of the head")
		}
		w.startLoaded()
		w.mustEqualStore()
	})
}
