package compare

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/countersign/countersign/services/benchmark/internal/report"
	"github.com/countersign/countersign/services/internal/load"
)

// Write writes the report as tables, for people.
func (r *Report) Write(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	r.writeConditions(t)
	r.writeClosed(t)
	r.writeWithRedis(t)
	r.writeCounting(t)
	r.writeOpen(t)
	r.writeTotals(t)
	return t.Flush()
}

func (r *Report) writeConditions(t io.Writer) {
	o := r.Options
	r.Environment.Write(t)
	fmt.Fprintf(t, "Store\t%d tokens, %d an app, %s changes a second%s\n",
		o.Tokens, o.TokensPerApp, report.Number(o.ChangesPerSecond), report.If(o.Validators > 1, ", %d validators", o.Validators))
	fmt.Fprintf(t, "Calls\t%d connections, %d in flight, tokens %s\n", o.Connections, o.InFlight, o.Mix)
	fmt.Fprintln(t, "Latency\tcounts from when a call was due; percentiles are over the calls of all rounds together")
	fmt.Fprintf(t, "Rounds\t%d, interleaved, order by --seed %d; medians, quartiles in brackets\n", o.Rounds, o.Seed)
	for _, note := range r.Notes {
		fmt.Fprintf(t, "Note\t%s\n", note)
	}
}

func (r *Report) writeClosed(t io.Writer) {
	fmt.Fprint(t, "\nClosed loop\tserver CPU a decision\tx tuned empty\tx empty\tallocations")
	fmt.Fprintln(t, "\tdecisions/s\tCPU of server\tof generator")
	for _, s := range r.Summary {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%.0f\t%s\t%s\n",
			s.Title, report.CPUTime(s.CPUNanos), report.Times(s.ToTuned), report.Times(s.ToEmpty),
			report.Number(s.Allocations.Median), s.PerSecond.Median,
			report.Percent(s.Utilisation.Median), report.Percent(s.GeneratorUtilisation.Median))
	}
}

// writeWithRedis writes the cost of each leg together with Redis: a server that asks Redis for each call
// moves work there.
func (r *Report) writeWithRedis(t io.Writer) {
	if !slices.ContainsFunc(r.Summary, func(s report.Summary) bool { return s.RedisCPUNanos.Median > 0 }) {
		return
	}
	fmt.Fprint(t, "\nWith Redis\tserver CPU a decision\tx validator")
	fmt.Fprintln(t, "\tRedis CPU a decision\tserver + Redis\tx validator + Redis")
	for _, s := range r.Summary {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", s.Title, report.CPUTime(s.CPUNanos), report.Times(s.ToValidator),
			report.CPUTime(s.RedisCPUNanos), report.CPUTime(s.WithRedisCPUNanos), report.Times(s.WithRedisToValidator))
	}
}

// writeCounting writes what a decision costs beside a validator that counts nothing.
func (r *Report) writeCounting(t io.Writer) {
	if !slices.ContainsFunc(r.Summary, func(s report.Summary) bool { return s.ToUncounted != nil }) {
		return
	}
	fmt.Fprintln(t, "\nCounting and handing over\tserver CPU a decision\tx without counting")
	for _, s := range r.Summary {
		if s.ToUncounted != nil {
			fmt.Fprintf(t, "%s\t%s\t%s\n", s.Title, report.CPUTime(s.CPUNanos), report.Times(s.ToUncounted))
		}
	}
}

func (r *Report) writeOpen(t io.Writer) {
	for i, rate := range r.Options.Rates {
		fmt.Fprintf(t, "\nOpen loop, %d calls/s, %s\tp50\tp99\tp99.9", rate, r.Options.Arrivals)
		fmt.Fprintln(t, "\tp50 x tuned empty\tp50 x empty\tp99 x tuned empty\tp99 x empty\tcalls\tsent late, p99")
		for _, s := range r.Summary {
			open := s.Open[i]
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\n",
				s.Title, load.Micros(open.P50), load.Micros(open.P99), load.Micros(open.P999),
				report.Times(open.P50ToTuned), report.Times(open.P50ToEmpty),
				report.Times(open.P99ToTuned), report.Times(open.P99ToEmpty),
				open.Calls, load.Micros(open.LateP99.Median))
		}
	}
}

func (r *Report) writeTotals(t io.Writer) {
	var calls uint64
	fmt.Fprintln(t)
	for _, s := range r.Summary {
		calls += s.Calls
		if s.ResyncShare != nil {
			fmt.Fprintf(t, "%s: loaded the whole store again %d times, in %s [%s, %s] of the time of its turns.\n",
				s.Title, s.Resyncs,
				report.Percent(s.ResyncShare.Median), report.Percent(s.ResyncShare.Q1), report.Percent(s.ResyncShare.Q3))
		}
	}
	if r.Options.ChangesPerSecond > 0 {
		fmt.Fprintf(t, "%d policies were changed meanwhile, %.0f a second.\n", r.Changes, r.ChangesReached)
	}
	fmt.Fprintf(t, "Every one of %d answers was checked; none was wrong.\n", calls)
}
