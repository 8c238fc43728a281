// Package reporttest makes results for tests of reports. This package is not part of the public API and may
// change in any release.
package reporttest

import (
	"time"

	"github.com/countersign/countersign/services/benchmark/internal/report"
	"github.com/countersign/countersign/services/internal/load"
)

// Turn returns a turn with one open loop, in which every call had the same latency.
func Turn(round int, leg report.Leg, cpuMicros float64, latency time.Duration) *report.Turn {
	h := load.NewHistogram()
	for range 10 {
		_ = h.RecordValue(int64(latency))
	}
	return &report.Turn{
		Round: round, Leg: leg.Name,
		Closed: report.Closed{Calls: 100, PerSecond: 1e6 / cpuMicros, CPUNanos: cpuMicros * 1000, Utilisation: 1, Allocations: 50},
		Open:   []report.Open{{Rate: 500, Calls: 10, Quantiles: load.QuantilesOf(h), Latency: h}},
	}
}

// Turns returns three rounds of two empty servers and a validator. The machine becomes slower from round to
// round, and the ratios between the servers stay.
func Turns() (turns []*report.Turn) {
	for round := 1; round <= 3; round++ {
		slow := float64(round)
		turns = append(turns,
			Turn(round, report.Empty, 20*slow, time.Millisecond),
			Turn(round, report.TunedEmpty, 10*slow, time.Millisecond),
			Turn(round, report.Validator, 11*slow, 2*time.Millisecond),
		)
	}
	return turns
}
