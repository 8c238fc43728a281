// Package bench puts load on a validator that runs, and compares every decision with the expected one.
//
// This package is not part of the public API and may change in any release.
package bench

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/countersign/countersign/services/internal/load"
)

// TargetOptions describe the load on a server.
type TargetOptions struct {
	Endpoint  load.Endpoint
	Questions []load.Question
	// Connections is the number of connections. InFlight is the number of calls in flight on all of them
	// together, in closed loops.
	Connections, InFlight int
	// Rate is the number of calls a second of an open loop, with the given Arrivals and Seed; 0 is a closed
	// loop.
	Rate     float64
	Arrivals load.Arrivals
	Seed     uint64
	WarmUp   time.Duration
	Limits   load.Limits
}

// Check returns an error that names the flag of the first wrong option.
func (o TargetOptions) Check() error {
	switch {
	case o.Connections < 1 || o.Connections > load.MaxConnections:
		return fmt.Errorf("--connections: want 1 to %d", load.MaxConnections)
	case o.InFlight < o.Connections || o.InFlight > load.MaxInFlight:
		return fmt.Errorf("--in-flight: want from --connections, since each of them needs a call, to %d", load.MaxInFlight)
	case o.Rate < 0 || o.Rate > load.MaxRate:
		return fmt.Errorf("--rate: want calls a second, up to %d, or 0 for a closed loop", load.MaxRate)
	}
	return nil
}

// TargetReport is the result of load on a server.
type TargetReport struct {
	Target string `json:"target"`
	// Rate is the intended number of calls a second; 0 in a closed loop.
	Rate     float64       `json:"rate"`
	Arrivals load.Arrivals `json:"arrivals,omitempty"`
	// Calls is the number of answers. Wrong of them had another decision than the expected one.
	Calls uint64 `json:"calls"`
	Wrong uint64 `json:"wrong"`
	// Examples describe some of the wrong answers.
	Examples []string `json:"examples,omitempty"`
	// Failed is the number of calls without an answer. Errors has the same by reason.
	Failed         uint64            `json:"failed"`
	Errors         map[string]uint64 `json:"errors"`
	ElapsedSeconds float64           `json:"elapsedSeconds"`
	PerSecond      float64           `json:"perSecond"`
	load.Quantiles
	MaxMicros float64 `json:"maxMicros"`
	// LateP99 is how late calls of an open loop were sent, in microseconds. The latencies include it.
	LateP99 float64 `json:"lateP99Micros"`
}

// Target puts load on a server.
func Target(ctx context.Context, o TargetOptions) (*TargetReport, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	caller, err := load.NewUnary(ctx, o.Endpoint, o.Connections)
	if err != nil {
		return nil, err
	}
	defer caller.Close()
	deck := load.NewDeck(o.Questions, o.Seed)
	if o.WarmUp > 0 {
		warm := load.Closed(ctx, caller, deck, load.Limits{Time: o.WarmUp}, o.InFlight)
		if err := warm.WrongError(); err != nil {
			return nil, err
		}
	}
	report := &TargetReport{Target: o.Endpoint.Address, Rate: o.Rate}
	var r *load.Result
	if o.Rate > 0 {
		report.Arrivals = o.Arrivals
		r = load.Open(ctx, caller, deck, o.Limits, load.NewSchedule(o.Rate, o.Arrivals, o.Seed))
	} else {
		r = load.Closed(ctx, caller, deck, o.Limits, o.InFlight)
	}
	report.Calls, report.Wrong, report.Examples = r.Answered, r.Wrong, r.Examples
	report.Failed, report.Errors = r.Failed(), r.Errors
	report.ElapsedSeconds, report.PerSecond = r.Elapsed.Seconds(), r.Rate()
	report.Quantiles, report.LateP99 = load.QuantilesOf(r.Latency), load.QuantilesOf(r.Late).P99
	report.MaxMicros = float64(r.Latency.Max()) / float64(time.Microsecond)
	return report, nil
}

// Write writes the report for people.
func (r *TargetReport) Write(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "Target\t%s\n", r.Target)
	fmt.Fprintf(t, "Decisions\t%d, each compared with what was expected\n", r.Calls)
	fmt.Fprintf(t, "Wrong\t%d\n", r.Wrong)
	for _, example := range r.Examples {
		fmt.Fprintf(t, "\t%s\n", example)
	}
	fmt.Fprintf(t, "Errors\t%d\n", r.Failed)
	for _, reason := range slices.Sorted(maps.Keys(r.Errors)) {
		fmt.Fprintf(t, "\t%s %d\n", reason, r.Errors[reason])
	}
	fmt.Fprintf(t, "Throughput\t%.0f a second, for %.1f s\n", r.PerSecond, r.ElapsedSeconds)
	fmt.Fprintf(t, "Latency\tp50 %s, p99 %s, p99.9 %s, longest %s\n",
		load.Micros(r.P50), load.Micros(r.P99), load.Micros(r.P999), load.Micros(r.MaxMicros))
	if r.Rate > 0 {
		fmt.Fprintf(t, "Sent late\tp99 %s, which is in the latency\n", load.Micros(r.LateP99))
	}
	return t.Flush()
}

// Err returns an error for wrong decisions, for calls without an answer, and for a load without calls.
func (r *TargetReport) Err() error {
	switch {
	case r.Wrong > 0:
		return fmt.Errorf("%w: %d of %d", load.ErrWrong, r.Wrong, r.Calls)
	case r.Calls == 0:
		return fmt.Errorf("there was no decision: %v", r.Errors)
	case r.Failed > 0:
		return fmt.Errorf("%d calls of %d were not answered: %v", r.Failed, r.Failed+r.Calls, r.Errors)
	}
	return nil
}
