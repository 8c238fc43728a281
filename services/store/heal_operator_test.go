package store_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/testkit/check"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/store"
)

// withMeta returns a store over the same replica that can heal a wiped Redis.
func (s *system) withMeta(opened *store.Store) *store.Store {
	s.t.Helper()
	options := store.Options{Meta: check.Must(record.SealMeta(s.ring, s.meta))(s.t)}
	return store.New(store.Over(s.client, partitions, options), opened.Replica(), options, quiet)
}

// TestHealWipedRedis: a Redis that lost everything becomes the same store again, from links alone, with its
// meta. An authority without the meta does not begin.
func TestHealWipedRedis(t *testing.T) {
	s := newSystem(t)
	opened := s.open(s.redis.URL())
	for i := range 40 {
		update(t, opened, call(fmt.Sprint("app-", i%7), "made", add(fmt.Sprint("tok-", i))))
	}
	update(t, opened, call("app-1", "revoked", revoke))
	if err := opened.Replica().Confirm(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := make([]history, partitions)
	known := make([]known, partitions)
	for partition := range partitions {
		before[partition], known[partition] = s.verify(t, partition), knownBy(opened, partition)
	}
	if err := s.client.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := opened.Heal(t.Context(), 0, 0, known[0].links, nil, known[0].seen); err == nil {
		t.Error("healed without the store's meta")
	}
	wantSame(t, s.client, map[string]string{})

	healer := s.withMeta(opened)
	for partition := range partitions {
		heal(t, healer, partition, known[partition])
	}
	if meta, err := s.client.Meta(t.Context(), s.ring); err != nil || meta.StoreID != s.meta.StoreID ||
		meta.Partitions != partitions {
		t.Errorf("the meta is %+v, %v", meta, err)
	}
	late := s.open(s.redis.URL())
	for partition := range partitions {
		h := s.verify(t, partition)
		if len(h.documents) != len(before[partition].documents) || h.head.Epoch != 2 {
			t.Errorf("partition %d has %d apps, had %d", partition, len(h.documents), len(before[partition].documents))
		}
		for app := range before[partition].documents {
			if !slices.Equal(h.documents[app].Tokens, before[partition].documents[app].Tokens) {
				t.Errorf("%s has %+v, had %+v", app, h.documents[app].Tokens, before[partition].documents[app].Tokens)
			}
			update(t, late, call(app, "made", add("late")))
			update(t, opened, call(app, "changed", note("noted")))
		}
		s.verify(t, partition)
	}
}

// TestB30_RestartedFleetHealsAWipedStore: an operator began an epoch far above the previous revisions, and
// every process has restarted since. The processes still hold entries from before that epoch. So a wiped
// store is restored from its first change on.
func TestB30_RestartedFleetHealsAWipedStore(t *testing.T) {
	s := newSystem(t)
	running := s.open(s.redis.URL())
	partition := s.codec.PartitionOf("app")
	update(t, running, call("app", "made", add("tok-1")))
	update(t, running, call("app", "made", add("tok-2")))
	update(t, running, call("app", "revoked", revoke))
	above := running.Replica().Cursors()[partition]
	above.Revision += 1_000_000_000
	if _, err := running.Adopt(t.Context(), partition, []record.Cursor{above},
		countersignv1.EpochCause_EPOCH_CAUSE_RESTORED); err != nil {
		t.Fatal(err)
	}
	s.check(running.Replica().Confirm(t.Context()))
	heal(t, running, partition, knownBy(running, partition))
	update(t, running, call("app", "made", add("tok-3")))
	before := s.verify(t, partition).documents["app"]

	restarted := s.open(s.redis.URL())
	entries := s.client.XLen(t.Context(), record.KeysOf(partition).Log).Val()
	for began := time.Now(); int64(len(restarted.Replica().Links(partition))) < entries; time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > patience {
			t.Fatalf("of %d entries of the log %d are held", entries, len(restarted.Replica().Links(partition)))
		}
	}
	known := knownBy(restarted, partition)
	s.check(s.client.FlushAll(t.Context()).Err())
	heal(t, s.withMeta(restarted), partition, known)
	if after := s.verify(t, partition).documents["app"]; after == nil || !slices.Equal(after.Tokens, before.Tokens) {
		t.Errorf("got the app %+v, want %+v", after, before)
	}
}

// TestAdopt: an operator accepts a partition as it is. Replicas that have seen more still follow, changes
// continue, and revocations stay in force.
func TestAdopt(t *testing.T) {
	s, opened, partition, k := lossy(t)
	start, err := opened.Adopt(t.Context(), partition, k.seen, countersignv1.EpochCause_EPOCH_CAUSE_ADOPTED)
	if err != nil {
		t.Fatal(err)
	}
	h := s.verify(t, partition)
	row := h.events[len(h.events)-1]
	if start != h.head.Cursor || start.Revision <= k.seen[0].Revision ||
		h.starts[0].Cause != countersignv1.EpochCause_EPOCH_CAUSE_ADOPTED || row.GetMethod() != "Adopt" {
		t.Errorf("got start %s, head %s, row %v; want an adopted epoch above all seen cursors", start, h.head.Cursor, row)
	}
	if err := opened.Replica().Reach(t.Context(), partition, start); err != nil {
		t.Fatal(err)
	}
	// Links that the fleet still holds are healed in a later epoch.
	healed := heal(t, opened, partition, knownBy(opened, partition))
	if h := s.verify(t, partition); healed.Nothing || !maps.Equal(h.states("app"), healedStates) {
		t.Errorf("got %+v, the app has %v", healed, h.states("app"))
	}
	update(t, opened, call("app", "made", add("tok-3")))
	if _, err := opened.Adopt(t.Context(), partition, []record.Cursor{{Epoch: 1, Revision: 1 << 60}},
		countersignv1.EpochCause_EPOCH_CAUSE_ADOPTED); err == nil {
		t.Error("got no error above a revision that a script cannot count, want one")
	}
	s.verify(t, partition)
}

// TestB30_NoChangeIsMadeBeforeAnOperatorsEpochIsHealed: every authority rejects changes until then, whether
// or not it has seen the lost ones. A healing is needed also when nothing was lost. An epoch that only
// settles changes does not heal the operator's epoch.
func TestB30_NoChangeIsMadeBeforeAnOperatorsEpochIsHealed(t *testing.T) {
	for _, cause := range []countersignv1.EpochCause{
		countersignv1.EpochCause_EPOCH_CAUSE_ADOPTED,
		countersignv1.EpochCause_EPOCH_CAUSE_RESTORED,
	} {
		s, opened, partition, k := lossy(t)
		if _, err := opened.Adopt(t.Context(), partition, k.seen, cause); err != nil {
			t.Fatal(err)
		}
		late := s.open(s.redis.URL())
		refused := func(when string) {
			t.Helper()
			for _, authority := range []*store.Store{opened, late} {
				held := contents(t, s.client)
				if _, err := authority.Update(t.Context(), call("app", "made",
					add("tok-3"))); apierr.ReasonOf(err) != apierr.StoreUnhealed {
					t.Errorf("%s: %v", when, err)
				}
				wantSame(t, s.client, held)
			}
		}
		refused("before it is healed")
		if err := opened.Settle(t.Context(), partition, []record.Tag{{1}}); err != nil {
			t.Fatal(err)
		}
		refused("after changes were settled again")
		heal(t, late, partition, k)
		for _, authority := range []*store.Store{opened, late} {
			update(t, authority, call("app", "made", add(fmt.Sprint("tok-", 3+len(s.verify(t, partition).links)))))
		}
		if h := s.verify(t, partition); h.states("app")["tok"] != policy.Revoked || len(h.documents["app"].Tokens) != 4 {
			t.Errorf("the app has %v", h.states("app"))
		}

		// The second operator's epoch loses nothing.
		if _, err := opened.Adopt(t.Context(), partition, nil, cause); err != nil {
			t.Fatal(err)
		}
		refused("though nothing was lost")
		if healed := heal(t, late, partition, known{}); healed.Nothing || healed.Lost > 0 {
			t.Errorf("%+v", healed)
		}
		update(t, late, call("app", "made", add("last")))
	}
}

// TestSettleNothing: Settle fails when nothing is left of the partition, and writes nothing.
func TestSettleNothing(t *testing.T) {
	s, opened, partition, _ := lossy(t)
	if err := s.client.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if err := s.withMeta(opened).Settle(t.Context(), partition, []record.Tag{{1}}); apierr.ReasonOf(err) != apierr.StoreForked {
		t.Error(err)
	}
	wantSame(t, s.client, map[string]string{})
}

// TestAdoptNothing: an operator may also adopt a wiped partition. The partition is empty then.
func TestAdoptNothing(t *testing.T) {
	s, opened, partition, k := lossy(t)
	if err := s.client.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	start, err := s.withMeta(opened).Adopt(t.Context(), partition, k.seen, countersignv1.EpochCause_EPOCH_CAUSE_ADOPTED)
	if err != nil {
		t.Fatal(err)
	}
	if h := s.verify(t, partition); h.head.Cursor != start || start.Epoch != 2 || start.Revision <= k.seen[0].Revision ||
		len(h.documents) != 0 {
		t.Errorf("begun at %s, the head is %+v", start, h.head)
	}
}

// TestFreeze: changes of a frozen partition are rejected. Reads of it and changes of other partitions
// succeed.
func TestFreeze(t *testing.T) {
	s := newSystem(t)
	opened := s.open(s.redis.URL())
	partition := s.codec.PartitionOf("app")
	update(t, opened, call("app", "made", add("tok")))
	opened.Freeze(partition, true)
	held := contents(t, s.client)
	started := time.Now()
	_, err := opened.Update(t.Context(), call("app", "refused", add("tok-2")))
	wantUnavailable(t, err, apierr.StoreForked)
	check.Within(t, "refusing a change", time.Since(started), time.Second, 8*time.Second)
	if _, _, err := opened.Read(t.Context(), "app"); err != nil {
		t.Errorf("a read of the frozen partition: got %v, want no error", err)
	}
	wantSame(t, s.client, held)
	for other := range partitions {
		if other != partition {
			update(t, opened, call(s.appIn(other), "elsewhere", add("tok")))
		}
	}
	opened.Freeze(partition, false)
	update(t, opened, call("app", "made", add("tok-2")))
}

// TestSettledAcrossEpochs: the reply to a commit is lost, and the store fails over or begins an epoch before
// the commit is sent again. The change is made once, or the call reports an unknown outcome.
func TestSettledAcrossEpochs(t *testing.T) {
	for _, tt := range []struct {
		name string
		// then is called after the first send, which made the change, and before the second send.
		then   func(s *system, other *store.Store, partition int, lose func(), link []byte)
		reason string
		epoch  uint64
	}{
		{
			name: "a failover lost the change: it is made again", epoch: 1,
			then: func(_ *system, _ *store.Store, _ int, lose func(), _ []byte) { lose() },
		},
		{
			name: "an epoch began after the change: the change counts as made", epoch: 1,
			then: func(s *system, other *store.Store, partition int, _ func(), _ []byte) {
				_, err := other.Adopt(context.Background(), partition, nil, countersignv1.EpochCause_EPOCH_CAUSE_ADOPTED)
				s.check(err)
				_, err = other.Heal(context.Background(), partition, 2, nil, nil, nil)
				s.check(err)
			},
		},
		{
			name: "a failover lost the change and an epoch began: it is computed and made again", epoch: 3,
			then: func(s *system, other *store.Store, partition int, lose func(), _ []byte) {
				lose()
				_, err := other.Adopt(context.Background(), partition, nil, countersignv1.EpochCause_EPOCH_CAUSE_ADOPTED)
				s.check(err)
				_, err = other.Heal(context.Background(), partition, 2, nil, nil, nil)
				s.check(err)
			},
		},
		{
			name: "a failover lost the change and a healing settled it: the outcome is unknown", reason: apierr.OutcomeUnknown,
			then: func(s *system, other *store.Store, partition int, lose func(), link []byte) {
				lose()
				_, err := other.Heal(context.Background(), partition, 0, [][]byte{link}, nil, nil)
				s.check(err)
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newSystem(t)
			// The authority's replica has its own connection and keeps following.
			p := startProxy(t, s.redis.Address())
			lossy := s.openWith(redisClient(t, p.url()), s.replica(redisClient(t, s.redis.URL())))
			other := s.openWith(s.client, lossy.Replica())
			partition, names := s.codec.PartitionOf("app"), s.keysOf("app")
			update(t, lossy, call("app", "made", add("tok")))
			lose := s.save(partition)
			p.spoil(once("eval", after, func() {
				last := check.Must(s.client.XRevRangeN(context.Background(), names.Log, "+", "-", 1).Result())(t)
				tt.then(s, other, partition, lose, []byte(last[0].Values["l"].(string)))
			}))
			result, err := lossy.Update(t.Context(), call("app", "made", add("tok-2")))
			if tt.reason != "" {
				wantUnavailable(t, err, tt.reason)
			} else if err != nil || result.Position.Epoch != tt.epoch {
				t.Errorf("made at %s, %v, want in epoch %d", result.Position.Cursor, err, tt.epoch)
			}
			if h := s.verify(t, partition); len(h.documents["app"].Tokens) != 2 {
				t.Errorf("the app has %v", h.states("app"))
			}
		})
	}
}
