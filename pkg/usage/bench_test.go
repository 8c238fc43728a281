package usage_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/metrics"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/usage"
)

var usageTokens = flag.Int("usage.tokens", 50_000, "how many tokens BenchmarkMemory counts requests of")

// decision is the decision on a request.
type decision struct {
	app  string
	spot usage.Spot
	policy.Decision
}

// decisions returns one decision about each of some tokens, in random order.
func decisions(n int) []decision {
	list := make([]decision, n)
	for i := range list {
		list[i].app = fmt.Sprintf("app%09d", i/4)
		list[i].Decision = policy.Decision{
			Allow: true, Reason: policy.TokenValid, Enforced: true, TokenID: fmt.Sprintf("tok_%016d", i),
		}
	}
	rand.Shuffle(n, func(i, j int) { list[i], list[j] = list[j], list[i] })
	// The decisions are in memory in the order of counting, so that reading them costs little, as it does
	// just after a decision.
	for i := range list {
		list[i].app, list[i].TokenID = strings.Clone(list[i].app), strings.Clone(list[i].TokenID)
		list[i].spot = usage.SpotFor(list[i].app, list[i].TokenID)
	}
	return list
}

func BenchmarkCount(b *testing.B) {
	const tokens = 1 << 16
	list := decisions(tokens)
	filled := func() *usage.Counter {
		var c usage.Counter
		for _, d := range list {
			c.Count(0, d.spot, d.app, 1, d.Decision)
		}
		return &c
	}
	b.Run("seen", func(b *testing.B) {
		c := filled()
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			d := &list[i%tokens]
			c.Count(0, d.spot, d.app, 1, d.Decision)
		}
	})
	b.Run("seen/parallel", func(b *testing.B) {
		c := filled()
		var from atomic.Int64
		b.ReportAllocs()
		b.ResetTimer()
		b.RunParallel(func(pb *testing.PB) {
			for i := from.Add(tokens / 3); pb.Next(); i++ {
				d := &list[i%tokens]
				c.Count(0, d.spot, d.app, 1, d.Decision)
			}
		})
	})
	b.Run("one/parallel", func(b *testing.B) {
		c := filled()
		b.ReportAllocs()
		b.ResetTimer()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				c.Count(0, list[0].spot, list[0].app, 1, list[0].Decision)
			}
		})
	})
	b.Run("first", func(b *testing.B) {
		var c usage.Counter
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if i%tokens == 0 {
				c.TakeAll(tokens)
			}
			d := &list[i%tokens]
			c.Count(int64(i/tokens)*60_000, d.spot, d.app, 1, d.Decision)
		}
	})
}

// BenchmarkFull measures the cost of MaxEntries entries: memory, and the time of a garbage collection.
func BenchmarkFull(b *testing.B) {
	list := decisions(usage.MaxEntries * 9 / 10) // some shards are full before others
	heap := liveHeap()
	var c usage.Counter
	for _, d := range list {
		c.Count(0, d.spot, d.app, 1, d.Decision)
	}
	entries := c.Stats().Entries
	bytes := float64(liveHeap()-heap) / float64(entries)
	runtime.KeepAlive(list)
	cpu := []metrics.Sample{{Name: "/cpu/classes/gc/total:cpu-seconds"}}
	metrics.Read(cpu)
	before := cpu[0].Value.Float64()
	for b.Loop() {
		runtime.GC()
	}
	metrics.Read(cpu)
	b.ReportMetric((cpu[0].Value.Float64()-before)*1e3/float64(b.N), "CPU-ms/collection")
	b.ReportMetric(bytes, "B/entry")
	b.ReportMetric(float64(entries), "entries")
	runtime.KeepAlive(&c)
}

// BenchmarkMemory measures what a validator needs to count requests with every token in every 10 s, with four
// tokens an app: the counter, and the batches that were handed over and are held until they are confirmed.
func BenchmarkMemory(b *testing.B) {
	list := decisions(*usageTokens)
	heap := liveHeap()
	var counter usage.Counter
	o := usage.NewOutbox(64, func(appID string) int { hash := policy.HashApp(appID); return hash.Partition(64) })
	now := time.Now()
	count := func() {
		for _, d := range list {
			counter.Count(now.UnixMilli(), d.spot, d.app, 1, d.Decision)
		}
	}
	// handOver takes all counts, as a validator does every 10 s, and has an authority acknowledge them.
	handOver := func() {
		for all := false; !all && o.Room() > 0; {
			room := min(o.Room(), 1<<12)
			counts := counter.TakeAll(room)
			all = len(counts) < room
			o.Put(counts, all, now)
		}
		for batch, due := o.Next(now); due; batch, due = o.Next(now) {
			o.Acknowledge(batch.Partition, batch.Number, now)
		}
	}
	count()
	alone := liveHeap() - heap
	const intervals = 6 // longer than batches are held
	for b.Loop() {
		for range intervals {
			handOver()
			now = now.Add(10 * time.Second)
			count()
		}
	}
	b.ReportMetric(b.Elapsed().Seconds()*1000/float64(b.N)/intervals, "ms/interval")
	all := liveHeap() - heap
	tokens := float64(len(list))
	b.ReportMetric(float64(alone)/tokens, "counter-B/token")
	b.ReportMetric(float64(all)/tokens, "all-B/token")
	b.ReportMetric(float64(all)/1e6, "all-MB")
	b.ReportMetric(float64(o.Stats().Counts)/tokens, "held/token")
	b.ReportMetric(float64(counter.Stats().Dropped), "dropped")
	runtime.KeepAlive(list)
	runtime.KeepAlive(&counter)
}

func liveHeap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
