package flood

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
	r.writeFlows(t)
	r.writeRedis(t)
	r.writeOverload(t)
	checked := r.Calm.Calls + r.Flooded.Calls + r.Flood
	if r.Overload != nil {
		checked += r.Overload.Right + r.Overload.After
	}
	fmt.Fprintf(t, "\nEvery one of %d answers was checked, %d of them the flood's; none was wrong.\n", checked, r.Flood)
	return t.Flush()
}

func (r *Report) writeConditions(t io.Writer) {
	o := r.Options
	r.Environment.Write(t)
	fmt.Fprintf(t, "Store\t%d tokens, %d an app\n", o.Tokens, o.TokensPerApp)
	fmt.Fprintf(t, "Callers\t%s calls/s with valid tokens, %d connections, %s\n",
		report.Number(o.Rate), o.Connections, o.Arrivals)
	fmt.Fprintf(t, "Flood\t%s calls/s with unknown tokens, %d other connections\n",
		report.Number(o.Rate*o.Times), o.Connections)
	fmt.Fprintf(t, "Rounds\t%d of each, in turn, order by --seed %d; medians by rounds, quartiles in brackets\n",
		o.Rounds, o.Seed)
	for _, note := range r.Notes {
		fmt.Fprintf(t, "Note\t%s\n", note)
	}
}

func (r *Report) writeFlows(t io.Writer) {
	fmt.Fprint(t, "\nCallers\tp50\tp99\tp99.9\tcalls\tsent late, p99")
	fmt.Fprintln(t, "\tCPU of server\tRedis commands/s\theap\tof the system")
	for _, row := range []struct {
		title string
		FlowSummary
	}{{"without the flood", r.Calm}, {"with the flood", r.Flooded}} {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%s\t%.1f %%\t%s\t%s\t%s\n", row.title,
			report.Latency(row.P50), report.Latency(row.P99), report.Latency(row.P999), row.Calls, load.Micros(row.LateP99.Median),
			100*row.Utilisation.Median, commands(row.RedisPerSecond), memory(row.HeapBytes), report.Bytes(row.SystemBytes.Median))
	}
	fmt.Fprintf(t, "x without\t%s\t%s\n", report.Times(&r.P50Ratio), report.Times(&r.P99Ratio))
}

// writeRedis writes the commands that Redis ran, without rare ones.
func (r *Report) writeRedis(t io.Writer) {
	var names []string
	for name, q := range r.Calm.Redis {
		if q.Median >= 1 || r.Flooded.Redis[name].Median >= 1 {
			names = append(names, name)
		}
	}
	for name, q := range r.Flooded.Redis {
		if _, also := r.Calm.Redis[name]; !also && q.Median >= 1 {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return
	}
	slices.Sort(names)
	fmt.Fprintln(t, "\nRedis commands/s\twithout the flood\twith the flood")
	for _, name := range names {
		fmt.Fprintf(t, "%s\t%.1f\t%.1f\n", name, r.Calm.Redis[name].Median, r.Flooded.Redis[name].Median)
	}
}

func (r *Report) writeOverload(t io.Writer) {
	o := r.Overload
	if o == nil {
		return
	}
	fmt.Fprintf(t, "\nOverload\t%d calls in flight at a validator with --max-in-flight %d, which has %d goroutines at rest\n",
		r.Options.InFlight, r.Options.MaxInFlight, o.AtRest)
	fmt.Fprintf(t, "Decided\t%d, %.0f a second, p50 %s, p99 %s\n",
		o.Right, o.RightPerSecond, load.Micros(o.P50), load.Micros(o.P99))
	fmt.Fprintf(t, "RESOURCE_EXHAUSTED\t%d, %.0f a second\n", o.Refused, o.RefusedPerSecond)
	fmt.Fprintf(t, "Afterwards\tall of %d calls were decided\n", o.After)
}

func commands(q report.Quartiles) string {
	if q.Median == 0 {
		return "unknown"
	}
	return fmt.Sprintf("%.0f [%.0f, %.0f]", q.Median, q.Q1, q.Q3)
}

func memory(q report.Quartiles) string {
	return fmt.Sprintf("%s [%s, %s]", report.Bytes(q.Median), report.Bytes(q.Q1), report.Bytes(q.Q3))
}
