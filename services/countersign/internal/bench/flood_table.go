package bench

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// Write writes the report as tables, for people.
func (r *FloodReport) Write(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	o := r.Options
	r.Environment.write(t)
	fmt.Fprintf(t, "Store\t%d tokens, %d an app\n", o.Tokens, o.TokensPerApp)
	fmt.Fprintf(t, "Callers\t%s calls/s with valid tokens, %d connections, %s\n", number(o.Rate), o.Connections, o.Arrivals)
	fmt.Fprintf(t, "Flood\t%s calls/s with unknown tokens, %d other connections\n", number(o.Rate*o.Times), o.Connections)
	fmt.Fprintf(t, "Rounds\t%d of each, in turn, order by --seed %d; medians by rounds, quartiles in brackets\n", o.Rounds, o.Seed)
	for _, note := range r.Notes {
		fmt.Fprintf(t, "Note\t%s\n", note)
	}
	fmt.Fprintln(t, "\nCallers\tp50\tp99\tp99.9\tcalls\tsent late, p99\tCPU of server\tRedis commands/s\theap\tof the system")
	for _, row := range []struct {
		title string
		FlowSummary
	}{{"without the flood", r.Calm}, {"with the flood", r.Flooded}} {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%s\t%.1f %%\t%s\t%s\t%s\n", row.title, spans(row.P50), spans(row.P99), spans(row.P999), row.Calls,
			span(row.LateP99.Median), 100*row.Utilisation.Median, commands(row.RedisPerSecond), amounts(row.HeapBytes), bytes(row.SystemBytes.Median))
	}
	fmt.Fprintf(t, "x without\t%s\t%s\n", ratio(&r.P50Ratio), ratio(&r.P99Ratio))
	r.writeRedis(t)
	checked := r.Calm.Calls + r.Flooded.Calls + r.Flood
	if l := r.Overload; l != nil {
		fmt.Fprintf(t, "\nOverload\t%d calls in flight at a validator with --max-in-flight %d, which has %d goroutines at rest\n", o.InFlight, o.MaxInFlight, l.AtRest)
		fmt.Fprintf(t, "Decided\t%d, %.0f a second, p50 %s, p99 %s\n", l.Right, l.RightPerSecond, span(l.P50), span(l.P99))
		fmt.Fprintf(t, "RESOURCE_EXHAUSTED\t%d, %.0f a second\n", l.Refused, l.RefusedPerSecond)
		fmt.Fprintf(t, "Afterwards\tall of %d calls were decided\n", l.After)
		checked += l.Right + l.After
	}
	fmt.Fprintf(t, "\nEvery one of %d answers was checked, %d of them the flood's; none was wrong.\n", checked, r.Flood)
	return t.Flush()
}

// writeRedis writes what Redis has run, without commands that are rare.
func (r *FloodReport) writeRedis(t io.Writer) {
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

// spans writes a median of microseconds, with its quartiles.
func spans(q Quartiles) string {
	return fmt.Sprintf("%s [%s, %s]", span(q.Median), span(q.Q1), span(q.Q3))
}

func commands(q Quartiles) string {
	if q.Median == 0 {
		return "unknown"
	}
	return fmt.Sprintf("%.0f [%.0f, %.0f]", q.Median, q.Q1, q.Q3)
}

func amounts(q Quartiles) string {
	return fmt.Sprintf("%s [%s, %s]", bytes(q.Median), bytes(q.Q1), bytes(q.Q3))
}
