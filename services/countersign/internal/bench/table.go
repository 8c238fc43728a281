package bench

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// Write writes the report as tables, for people.
func (r *Report) Write(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	e, o := r.Environment, r.Options
	for _, row := range [][2]string{
		{"Machine", fmt.Sprintf("%s, %d cores, %s, kernel %s", orUnknown(e.CPU), e.Cores, e.Platform, orUnknown(e.Kernel))},
		{"Program", fmt.Sprintf("%s, grpc-go %s, commit %s", e.Go, orUnknown(e.GRPC), orUnknown(e.commit()))},
		{"Store", fmt.Sprintf("%d tokens, %d an app, %s changes a second", o.Tokens, o.TokensPerApp, number(o.ChangesPerSecond))},
		{"Calls", fmt.Sprintf("%d connections, %d in flight, tokens %s", o.Connections, o.InFlight, o.Mix)},
		{"Latency", "counts from when a call was due; percentiles are those of all rounds together"},
		{"Rounds", fmt.Sprintf("%d, interleaved, order by --seed %d; medians, quartiles in brackets", o.Rounds, o.Seed)},
	} {
		fmt.Fprintf(t, "%s\t%s\n", row[0], row[1])
	}
	for _, note := range r.Notes {
		fmt.Fprintf(t, "Note\t%s\n", note)
	}
	fmt.Fprintln(t, "\nClosed loop\tserver CPU a decision\tx tuned empty\tx empty\tallocations\tdecisions/s\tCPU of server\tof generator\tRedis CPU a decision")
	for _, s := range r.Summary {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%.0f\t%s\t%s\t%s\n", s.Title, micros(s.CPUNanos), ratio(s.ToTuned), ratio(s.ToEmpty),
			number(s.Allocations.Median), s.PerSecond.Median, percent(s.Utilisation.Median), percent(s.GeneratorUtilisation.Median),
			span(s.RedisCPUNanos.Median/1000))
	}
	for i, rate := range o.Rates {
		fmt.Fprintf(t, "\nOpen loop, %d calls/s, %s\tp50\tp99\tp99.9\tp99 x tuned empty\tcalls\tsent late, p99\n", rate, o.Arrivals)
		for _, s := range r.Summary {
			open := s.Open[i]
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%d\t%s\n", s.Title, span(open.P50), span(open.P99), span(open.P999),
				ratio(open.P99ToTuned), open.Calls, span(open.LateP99.Median))
		}
	}
	var calls uint64
	for _, s := range r.Summary {
		calls += s.Calls
	}
	if o.ChangesPerSecond > 0 {
		fmt.Fprintf(t, "\n%d policies were changed meanwhile, %.0f a second.", r.Changes, r.ChangesReached)
	}
	fmt.Fprintf(t, "\nEvery one of %d answers was checked; none was wrong.\n", calls)
	return t.Flush()
}

func (e Environment) commit() string {
	commit := e.Commit[:min(12, len(e.Commit))]
	if commit != "" && e.Modified {
		commit += " with changes"
	}
	return commit
}

func orUnknown(text string) string {
	if text == "" {
		return "unknown"
	}
	return text
}

// micros writes a median of nanoseconds, with its quartiles, in microseconds.
func micros(q Quartiles) string {
	if q.Median == 0 {
		return "unknown"
	}
	return fmt.Sprintf("%.2f us [%.2f, %.2f]", q.Median/1000, q.Q1/1000, q.Q3/1000)
}

func ratio(r *Ratio) string {
	if r == nil {
		return "-"
	}
	return fmt.Sprintf("%.2f [%.2f, %.2f]", r.Median, r.Q1, r.Q3)
}

// span writes a time in microseconds.
func span(micros float64) string {
	if micros < 1000 {
		return fmt.Sprintf("%.0f us", micros)
	}
	return (time.Duration(micros*1000) * time.Nanosecond).Round(10 * time.Microsecond).String()
}

func percent(part float64) string {
	if part == 0 {
		return "unknown"
	}
	return fmt.Sprintf("%.0f %%", 100*part)
}

// number writes a number with as many digits as say something.
func number(v float64) string {
	return strings.TrimSuffix(fmt.Sprintf("%.1f", v), ".0")
}
