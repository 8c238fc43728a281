package store_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/replica"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/authority/internal/healing"
)

// slowSource is a source that, once slow, takes long to read a large partition.
type slowSource struct {
	replica.Source
	slow atomic.Bool
}

func (s *slowSource) Documents(ctx context.Context, partition int, each func(string, []byte)) error {
	if s.slow.Load() {
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Second):
		}
	}
	return s.Source.Documents(ctx, partition, each)
}

// oneValidator is a fleet of one that has seen something and does not report any more.
type oneValidator struct{ seen record.Cursor }

func (f *oneValidator) Links(context.Context, int) [][]byte { return nil }
func (f *oneValidator) Highest(int) []record.Cursor         { return []record.Cursor{f.seen} }
func (f *oneValidator) Present(int, time.Time) ([]record.Cursor, []string) {
	return []record.Cursor{f.seen}, []string{"v"}
}
func (f *oneValidator) Orphans(int, uint64) []record.Tag { return nil }

// TestB30_NoEpochIsHealedBeforeValidatorsReport: while an authority is slow to load what an operator restored, it does not
// heal the new epoch on the word of what it saw before.
func TestB30_NoEpochIsHealedBeforeValidatorsReport(t *testing.T) {
	s := newSystem(t)
	source := &slowSource{Source: redisfeed.New(s.client, s.meta.Partitions)}
	r := replica.New(source, s.codec, quiet)
	r.Heals()
	go r.Run(t.Context())
	if err := r.WaitLoaded(t.Context()); err != nil {
		t.Fatal(err)
	}
	opened := s.openWith(s.client, r)
	opened = s.withMeta(opened)
	partition := s.codec.PartitionOf("app")
	first := update(t, opened, call("app", "made", add("tok")))
	if err := r.Confirm(t.Context()); err != nil {
		t.Fatal(err)
	}
	source.slow.Store(true)
	// v has seen more than anybody supplies.
	seen := record.Cursor{Epoch: 1, Revision: first.Position.Revision + 5, Tag: record.NewTag()}
	if err := s.client.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	h := healing.New(r, opened, healing.NewMetrics(prometheus.NewRegistry()), quiet)
	go h.Run(t.Context(), &oneValidator{seen})
	for !r.Forked(partition) {
		time.Sleep(10 * time.Millisecond)
	}
	time.Sleep(700 * time.Millisecond)
	if _, err := opened.Adopt(t.Context(), partition, []record.Cursor{seen}, countersignv1.EpochCause_EPOCH_CAUSE_RESTORED); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for time.Since(began) < 2*time.Second {
		raw, err := s.client.Get(t.Context(), record.KeysOf(partition).Head).Bytes()
		if err != nil {
			t.Fatal(err)
		}
		head, err := s.codec.OpenHead(partition, raw)
		if err != nil {
			t.Fatal(err)
		}
		if !head.Unhealed {
			t.Fatalf("healed %v after the restoration, though validator v has not reported since: %s", time.Since(began), head.Cursor)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
