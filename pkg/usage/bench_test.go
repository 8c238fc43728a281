package usage_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/metrics"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/usage"
)

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

func liveHeap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
