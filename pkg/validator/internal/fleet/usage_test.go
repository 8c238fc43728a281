package fleet

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/usage"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// counts is what an authority has counted. It answers as the contract says.
type counts struct {
	seen  map[uint32]uint64
	total map[string]uint64
}

func newCounts() *counts { return &counts{map[uint32]uint64{}, map[string]uint64{}} }

func (c *counts) add(b *countersignv1.UsageBatch) (uint64, bool) {
	seen := c.seen[b.GetPartition()]
	if len(b.GetCounts()) > 0 && (b.GetNumber() == seen+1 || b.GetOldest() && b.GetNumber() > seen) {
		c.seen[b.GetPartition()] = b.GetNumber()
		for _, one := range b.GetCounts() {
			c.total[one.GetAppId()] += one.GetCount()
		}
	}
	return c.seen[b.GetPartition()], true
}

// decide counts decisions about an app of each partition.
func (k *kit) decide(c *usage.Counter, n int) {
	for partition := range partitions {
		for range n {
			missing := policy.Decision{Reason: policy.TokenMissing}
			c.Count(time.Now().UnixMilli(), usage.Spot(partition), k.App(partition, 0), 1, missing)
		}
	}
}

// wantCounted waits until all partitions have some number of decisions.
func (k *kit) wantCounted(c *counts, want uint64) {
	k.t.Helper()
	check.Eventually(k.t, "the counts", func() error {
		k.authority.mu.Lock()
		defer k.authority.mu.Unlock()
		for partition := range partitions {
			if n := c.total[k.App(partition, 0)]; n != want {
				return fmt.Errorf("partition %d has %d decisions, want %d", partition, n, want)
			}
		}
		return nil
	})
}

// untilTaken is longer than a take and the sending of what it took.
const untilTaken = takeInterval + spread + time.Second

// TestB21_CountsAreHandedOver: an authority gets the counts, also of the running minute, within 15 s. It is
// told how far they are complete.
func TestB21_CountsAreHandedOver(t *testing.T) {
	inBubble(t, func(t *testing.T, authority *fakeAuthority, _ *network) {
		var counter usage.Counter
		c := newCounts()
		authority.count = c.add
		k := start(t, authority, func(config *Config) { config.Usage = &counter })
		k.awaitWelcome()
		for i := range uint64(5) {
			k.decide(&counter, 10)
			made := time.Now()
			time.Sleep(untilTaken)
			k.wantCounted(c, 10*(i+1))
			k.find("progress", func(m received) bool {
				until := m.GetUsageProgress().GetCompleteUntil()
				return until.IsValid() && until.AsTime().After(made.Add(-countedLate)) && m.at.Sub(made) <= 15*time.Second+Interval
			})
		}
		if batches, age := k.reporter.UnacknowledgedUsage(); batches != 0 || age != 0 {
			t.Errorf("%d batches, %v old, are not acknowledged", batches, age)
		}
		for _, m := range authority.all() {
			if m.GetUsage() != nil && (m.GetSequence() == 0 || m.GetClock() == nil) {
				t.Errorf("%v", m)
			}
			if m.GetUsageProgress().GetFinal() {
				t.Error("a validator that decides says that it does not")
			}
		}
	})
}

// TestB21_CountsOutliveConnections: requests and answers are lost and connections break; each decision is
// counted once.
func TestB21_CountsOutliveConnections(t *testing.T) {
	inBubble(t, func(t *testing.T, authority *fakeAuthority, between *network) {
		var counter usage.Counter
		c, calls := newCounts(), 0
		authority.count = func(b *countersignv1.UsageBatch) (uint64, bool) {
			calls++
			switch calls % 4 {
			case 1:
				return 0, false // the request is lost
			case 2:
				number, _ := c.add(b)
				return number, false // the answer is lost
			}
			return c.add(b)
		}
		k := start(t, authority, func(config *Config) { config.Usage = &counter })
		k.awaitWelcome()
		for range 10 {
			k.decide(&counter, 1)
			time.Sleep(7 * time.Second)
			between.cut()
		}
		time.Sleep(2 * time.Minute)
		k.wantCounted(c, 10)
	})
}

// TestB21_WhatAFailoverTookIsHandedOverAgain: an authority that has counted less than before gets the rest
// again, without new decisions.
func TestB21_WhatAFailoverTookIsHandedOverAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, authority *fakeAuthority, _ *network) {
		var counter usage.Counter
		c := newCounts()
		authority.count = func(b *countersignv1.UsageBatch) (uint64, bool) { return c.add(b) }
		k := start(t, authority, func(config *Config) { config.Usage = &counter })
		k.awaitWelcome()
		k.decide(&counter, 3)
		time.Sleep(untilTaken)
		k.wantCounted(c, 3)
		authority.set(func() { c = newCounts() })
		time.Sleep(30 * time.Second)
		k.wantCounted(c, 3)
	})
}

// TestB21_LastFlush: a validator that leaves hands over what it has before it says that it leaves, and says
// that nothing follows.
func TestB21_LastFlush(t *testing.T) {
	inBubble(t, func(t *testing.T, authority *fakeAuthority, _ *network) {
		var counter usage.Counter
		c := newCounts()
		authority.count = c.add
		k := start(t, authority, func(config *Config) { config.Usage = &counter })
		k.awaitWelcome()
		k.stop()
		k.decide(&counter, 20)
		k.reporter.Leave("storetest")
		k.wantCounted(c, 20)
		all := authority.all()
		last := all[len(all)-1]
		p := last.GetUsageProgress()
		if !last.GetLeaving() || !p.GetFinal() || time.Since(p.GetCompleteUntil().AsTime()) > 5*time.Second {
			t.Errorf("%v", last)
		}
	})
}

// TestB21_FlushThatFails: a validator that cannot hand over its last counts leaves in time, and does not say
// that nothing is missing.
func TestB21_FlushThatFails(t *testing.T) {
	inBubble(t, func(t *testing.T, authority *fakeAuthority, _ *network) {
		var counter usage.Counter
		authority.count = func(*countersignv1.UsageBatch) (uint64, bool) { return 0, false }
		k := start(t, authority, func(config *Config) { config.Usage = &counter })
		k.awaitWelcome()
		k.stop()
		k.decide(&counter, 20)
		began := time.Now()
		k.reporter.Leave("storetest")
		if took := time.Since(began); took > flushTimeout+leaveTimeout {
			t.Errorf("left after %v", took)
		}
		all := authority.all()
		if last := all[len(all)-1]; !last.GetLeaving() || last.GetUsageProgress().GetFinal() {
			t.Errorf("%v", last)
		}
	})
}

// TestB21_EarlierAuthority: an authority that knows no usage counts hears everything else. A validator does
// not wait for it when it leaves.
func TestB21_EarlierAuthority(t *testing.T) {
	inBubble(t, func(t *testing.T, authority *fakeAuthority, _ *network) {
		var counter usage.Counter
		k := start(t, authority, func(config *Config) { config.Usage = &counter })
		k.awaitWelcome()
		k.decide(&counter, 1)
		time.Sleep(time.Hour)
		if !k.reporter.Connected() || authority.streams != 1 {
			t.Errorf("connected %t, %d streams", k.reporter.Connected(), authority.streams)
		}
		if batches, age := k.reporter.UnacknowledgedUsage(); batches != partitions {
			t.Errorf("%d batches, %v old", batches, age)
		}
		k.stop()
		began := time.Now()
		k.reporter.Leave("storetest")
		if took := time.Since(began); took >= flushTimeout {
			t.Errorf("left after %v", took)
		}
	})
}

// TestB21_NothingIsTakenUnheard: while no authority listens the counter keeps the counts, by minute.
func TestB21_NothingIsTakenUnheard(t *testing.T) {
	inBubble(t, func(t *testing.T, authority *fakeAuthority, _ *network) {
		var counter usage.Counter
		authority.refuse = errors.New("no")
		k := start(t, authority, func(config *Config) { config.Usage = &counter })
		k.decide(&counter, 1)
		time.Sleep(10 * time.Minute)
		if n := counter.Stats().Entries; n != partitions {
			t.Errorf("%d entries are left, want %d", n, partitions)
		}
	})
}

// TestB21_KilledValidator: a validator that is killed has handed over all but the last 15 s, and has said up
// to when. It has not said that nothing is missing.
func TestB21_KilledValidator(t *testing.T) {
	inBubble(t, func(t *testing.T, authority *fakeAuthority, between *network) {
		var counter usage.Counter
		c := newCounts()
		authority.count = c.add
		k := start(t, authority, func(config *Config) { config.Usage = &counter })
		k.awaitWelcome()
		const pace = 100 * time.Millisecond
		decided := uint64(0)
		for range 7 * time.Minute / pace {
			k.decide(&counter, 1)
			decided++
			time.Sleep(pace)
		}
		between.set(func() { between.hole = true })
		killed := time.Now()
		k.stop()
		var until time.Time
		for _, m := range authority.all() {
			if p := m.GetUsageProgress(); p.GetCompleteUntil().IsValid() {
				until = p.GetCompleteUntil().AsTime()
			}
			if m.GetUsageProgress().GetFinal() {
				t.Error("it has said that nothing is missing")
			}
		}
		if missing := killed.Sub(until); missing > 15*time.Second+countedLate {
			t.Errorf("%v are missing", missing)
		}
		for partition := range partitions {
			n := c.total[k.App(partition, 0)]
			if least := decided - uint64(15*time.Second/pace); n < least || n > decided {
				t.Errorf("%d decisions are counted, want %d to %d", n, least, decided)
			}
		}
	})
}

// TestB21_NumbersGoOnWhenAStoreIsBack: a validator that follows another store for a while, and then the first
// one again, goes on with its numbers, since the authorities have kept the last one.
func TestB21_NumbersGoOnWhenAStoreIsBack(t *testing.T) {
	var counter usage.Counter
	h := newHandover(&counter, nil)
	one, other := storeOf(t, "one"), storeOf(t, "other")
	for i, step := range []struct {
		of   *replica.Replica
		want uint64
	}{{one, 1}, {one, 2}, {other, 1}, {one, 3}, {other, 2}, {storeOf(t, "third"), 1}, {one, 4}} {
		h.open(step.of)
		counter.Count(time.Now().UnixMilli(), 0, "app", 1, policy.Decision{Reason: policy.TokenMissing})
		h.take(0)
		m, _ := h.next(time.Now())
		if got := m.GetUsage().GetNumber(); got != step.want {
			t.Fatalf("step %d: the batch has number %d, want %d", i, got, step.want)
		}
		partition := m.GetUsage().GetPartition()
		h.receive(&countersignv1.ReportResponse{UsagePartition: &partition, UsageAcknowledged: step.want}, time.Now())
	}
}

// storeOf returns a replica of a store of its own.
func storeOf(t *testing.T, id string) *replica.Replica {
	t.Helper()
	codec := record.NewCodec(keyring.Generate(), record.Meta{StoreID: id, Partitions: partitions})
	return replica.New(nil, codec, slog.New(slog.DiscardHandler))
}

// TestB21_DropsHaveATime: a validator says when it last dropped decisions.
func TestB21_DropsHaveATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var counter usage.Counter
		h := newHandover(&counter, nil)
		h.open(storeOf(t, "one"))
		began := time.Now()
		for _, step := range []struct {
			dropped uint64
			until   time.Duration
		}{{0, 0}, {0, 0}, {5, 2 * time.Hour}, {5, 2 * time.Hour}, {6, 4 * time.Hour}} {
			h.noteDropped(step.dropped)
			h.tell()
			p := h.progress()
			if p.GetDropped() != step.dropped || (p.GetDroppedUntil() != nil) != (step.until > 0) ||
				step.until > 0 && !p.GetDroppedUntil().AsTime().Equal(began.Add(step.until)) {
				t.Errorf("%v, want %d until %v", p, step.dropped, step.until)
			}
			time.Sleep(time.Hour)
		}
	})
}
