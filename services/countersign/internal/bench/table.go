package bench

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Write writes the report as tables, for people.
func (r *Report) Write(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	o := r.Options
	r.Environment.write(t)
	for _, row := range [][2]string{
		{"Store", fmt.Sprintf("%d tokens, %d an app, %s changes a second%s", o.Tokens, o.TokensPerApp, number(o.ChangesPerSecond),
			unless(o.Validators <= 1, ", %d validators", o.Validators))},
		{"Calls", fmt.Sprintf("%d connections, %d in flight, tokens %s", o.Connections, o.InFlight, o.Mix)},
		{"Latency", "counts from when a call was due; percentiles are those of all rounds together"},
		{"Rounds", fmt.Sprintf("%d, interleaved, order by --seed %d; medians, quartiles in brackets", o.Rounds, o.Seed)},
	} {
		fmt.Fprintf(t, "%s\t%s\n", row[0], row[1])
	}
	for _, note := range r.Notes {
		fmt.Fprintf(t, "Note\t%s\n", note)
	}
	fmt.Fprintln(t, "\nClosed loop\tserver CPU a decision\tx tuned empty\tx empty\tallocations\tdecisions/s\tCPU of server\tof generator")
	for _, s := range r.Summary {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%.0f\t%s\t%s\n", s.Title, micros(s.CPUNanos), ratio(s.ToTuned), ratio(s.ToEmpty),
			number(s.Allocations.Median), s.PerSecond.Median, percent(s.Utilisation.Median), percent(s.GeneratorUtilisation.Median))
	}
	r.writeBesideRedis(t)
	for i, rate := range o.Rates {
		fmt.Fprintf(t, "\nOpen loop, %d calls/s, %s\tp50\tp99\tp99.9\tp50 x tuned empty\tp50 x empty\tp99 x tuned empty\tp99 x empty\tcalls\tsent late, p99\n", rate, o.Arrivals)
		for _, s := range r.Summary {
			open := s.Open[i]
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\n", s.Title, span(open.P50), span(open.P99), span(open.P999),
				ratio(open.P50ToTuned), ratio(open.P50ToEmpty), ratio(open.P99ToTuned), ratio(open.P99ToEmpty), open.Calls, span(open.LateP99.Median))
		}
	}
	var calls uint64
	fmt.Fprintln(t)
	for _, s := range r.Summary {
		calls += s.Calls
		if s.ResyncShare != nil {
			fmt.Fprintf(t, "%s: everything was loaded anew %d times, in %s [%s, %s] of the time of its turns.\n", s.Title, s.Resyncs,
				percent(s.ResyncShare.Median), percent(s.ResyncShare.Q1), percent(s.ResyncShare.Q3))
		}
	}
	if o.ChangesPerSecond > 0 {
		fmt.Fprintf(t, "%d policies were changed meanwhile, %.0f a second.\n", r.Changes, r.ChangesReached)
	}
	fmt.Fprintf(t, "Every one of %d answers was checked; none was wrong.\n", calls)
	return t.Flush()
}

// writeBesideRedis writes what each leg costs together with Redis, beside the validator: whoever asks Redis
// for each call moves work there, which is paid for, too.
func (r *Report) writeBesideRedis(t io.Writer) {
	if !slices.ContainsFunc(r.Summary, func(s Summary) bool { return s.RedisCPUNanos.Median > 0 }) {
		return
	}
	fmt.Fprintln(t, "\nWith Redis\tserver CPU a decision\tx validator\tRedis CPU a decision\tserver + Redis\tx validator + Redis")
	for _, s := range r.Summary {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", s.Title, micros(s.CPUNanos), ratio(s.ToValidator),
			micros(s.RedisCPUNanos), micros(s.WithRedisCPUNanos), ratio(s.WithRedisToValidator))
	}
}

// write writes where a measurement was made.
func (e Environment) write(t io.Writer) {
	fmt.Fprintf(t, "Machine\t%s, %d cores, %s, kernel %s\n", orUnknown(e.CPU), e.Cores, e.Platform, orUnknown(e.Kernel))
	fmt.Fprintf(t, "Program\t%s, grpc-go %s, commit %s\n", e.Go, orUnknown(e.GRPC), orUnknown(e.commit()))
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
