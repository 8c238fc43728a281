package bench

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// Write writes the growth as a table, for people.
func (g *Growth) Write(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	e, o := g.Environment, g.Options
	e.write(t)
	fmt.Fprintf(t, "Growth\t%s\n", axes[o.By].title)
	if o.By != ByTokens {
		fmt.Fprintf(t, "Store\t%d tokens, %d an app\n", o.Tokens, o.TokensPerApp)
	}
	fmt.Fprintf(t, "Calls\t%s%d in flight%s\n", unless(o.By == ByConnections, "%d connections, ", o.Connections), o.InFlight, unless(o.By == ByReasons, ", tokens %s", o.Mix))
	fmt.Fprintf(t, "Rounds\t%d, interleaved%s, order by --seed %d; medians, quartiles in brackets\n", o.Rounds, unless(!axes[o.By].within, ", steps too"), o.Seed)
	for _, note := range g.Notes {
		fmt.Fprintf(t, "Note\t%s\n", note)
	}
	for _, s := range g.Steps {
		for _, note := range s.Notes {
			fmt.Fprintf(t, "Note\t%s: %s\n", s.Value, note)
		}
	}
	fmt.Fprintf(t, "\n%s\tserver\tCPU a decision\tx tuned empty\tx first\tallocations\theap", axes[o.By].title)
	if o.By == ByChanges {
		fmt.Fprint(t, "\tchanges/s")
	}
	for _, rate := range o.Rates {
		fmt.Fprintf(t, "\t%d/s: CPU of server\tp50\tp99\tp50 x tuned empty\tp99 x tuned empty\tsent late, p99", rate)
	}
	fmt.Fprintln(t)
	for _, step := range g.Steps {
		for _, s := range step.Summary {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s", step.Value, s.Title, micros(s.CPUNanos), ratio(s.ToTuned), ratio(s.ToFirst),
				number(s.Allocations.Median), bytes(float64(s.HeapBytes)))
			if o.By == ByChanges {
				fmt.Fprintf(t, "\t%.0f", step.ChangesReached)
			}
			for _, open := range s.Open {
				fmt.Fprintf(t, "\t%.1f %%\t%s\t%s\t%s\t%s\t%s", 100*open.Utilisation.Median, span(open.P50), span(open.P99),
					ratio(open.P50ToTuned), ratio(open.P99ToTuned), span(open.LateP99.Median))
			}
			fmt.Fprintln(t)
		}
	}
	var calls uint64
	for _, step := range g.Steps {
		for _, s := range step.Summary {
			calls += s.Calls
		}
	}
	fmt.Fprintf(t, "\nEvery one of %d answers was checked; none was wrong.\n", calls)
	return t.Flush()
}

// unless writes something unless it is left out.
func unless(out bool, format string, args ...any) string {
	if out {
		return ""
	}
	return fmt.Sprintf(format, args...)
}

// bytes writes an amount of memory.
func bytes(n float64) string {
	units := []string{"B", "kB", "MB", "GB"}
	for _, unit := range units {
		if n < 1000 || unit == units[len(units)-1] {
			return fmt.Sprintf("%s %s", number(n), unit)
		}
		n /= 1000
	}
	return ""
}

// leg returns what a leg has shown at a step; nil when it has not competed.
func (s *Step) leg(name string) *StepSummary {
	i := slices.IndexFunc(s.Summary, func(one StepSummary) bool { return one.Leg == name })
	if i < 0 {
		return nil
	}
	return &s.Summary[i]
}
