package grow

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/countersign/countersign/services/benchmark/internal/report"
	"github.com/countersign/countersign/services/internal/load"
)

// Write writes the report as a table, for people.
func (r *Report) Write(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	r.writeConditions(t)
	r.writeHead(t)
	var calls uint64
	for _, step := range r.Steps {
		for _, s := range step.Summary {
			r.writeRow(t, step, s)
			calls += s.Calls
		}
	}
	fmt.Fprintf(t, "\nEvery one of %d answers was checked; none was wrong.\n", calls)
	return t.Flush()
}

func (r *Report) writeConditions(t io.Writer) {
	o := r.Options
	r.Environment.Write(t)
	fmt.Fprintf(t, "Growth\t%s\n", axes[o.By].title)
	if o.By != ByTokens {
		fmt.Fprintf(t, "Store\t%d tokens, %d an app\n", o.Tokens, o.TokensPerApp)
	}
	fmt.Fprintf(t, "Calls\t%s%d in flight%s\n", report.If(o.By != ByConnections, "%d connections, ", o.Connections), o.InFlight,
		report.If(o.By != ByReasons, ", tokens %s", o.Mix))
	fmt.Fprintf(t, "Rounds\t%d, interleaved%s, order by --seed %d; medians, quartiles in brackets\n", o.Rounds,
		report.If(axes[o.By].within, ", steps too"), o.Seed)
	for _, note := range r.Notes {
		fmt.Fprintf(t, "Note\t%s\n", note)
	}
	for _, s := range r.Steps {
		for _, note := range s.Notes {
			fmt.Fprintf(t, "Note\t%s: %s\n", s.Value, note)
		}
	}
}

func (r *Report) writeHead(t io.Writer) {
	fmt.Fprintf(t, "\n%s\tserver\tCPU a decision\tx tuned empty\tx first\tallocations\theap", axes[r.Options.By].title)
	if r.Options.By == ByChanges {
		fmt.Fprint(t, "\tchanges/s")
	}
	for _, rate := range r.Options.Rates {
		fmt.Fprintf(t, "\t%d/s: CPU of server\tp50\tp99\tp50 x tuned empty\tp99 x tuned empty\tsent late, p99", rate)
	}
	fmt.Fprintln(t)
}

func (r *Report) writeRow(t io.Writer, step *Step, s Summary) {
	fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s", step.Value, s.Title, report.CPUTime(s.CPUNanos), report.Times(s.ToTuned),
		report.Times(s.ToFirst), report.Number(s.Allocations.Median), report.Bytes(float64(s.HeapBytes)))
	if r.Options.By == ByChanges {
		fmt.Fprintf(t, "\t%.0f", step.ChangesReached)
	}
	for _, open := range s.Open {
		fmt.Fprintf(t, "\t%.1f %%\t%s\t%s\t%s\t%s\t%s", 100*open.Utilisation.Median, load.Micros(open.P50), load.Micros(open.P99),
			report.Times(open.P50ToTuned), report.Times(open.P99ToTuned), load.Micros(open.LateP99.Median))
	}
	fmt.Fprintln(t)
}
