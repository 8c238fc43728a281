package redisfeed_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/testkit/redistest"
)

// BenchmarkHeads measures a poll, which a validator makes four times a second. cpu-us/op is the processor
// time of this process.
func BenchmarkHeads(b *testing.B) {
	for name, start := range kinds {
		b.Run(name, func(b *testing.B) {
			g := start(b, redistest.Options{})
			k := g.fill(b, 64)
			for quorum := range g.replicas + 1 {
				b.Run(map[int]string{0: "plain", 1: "quorum"}[quorum], func(b *testing.B) {
					feed := k.feedWith(b, g.urlFor("", ""), quorum)
					if err := readAll(feed)(b.Context()); err != nil {
						b.Fatal(err)
					}
					b.ReportAllocs()
					b.ResetTimer()
					before := processorTime(b)
					for range b.N {
						if _, err := feed.Heads(b.Context()); err != nil {
							b.Fatal(err)
						}
					}
					b.ReportMetric(float64((processorTime(b)-before).Nanoseconds())/float64(b.N)/1000, "cpu-us/op")
				})
			}
		})
	}
}

func processorTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
