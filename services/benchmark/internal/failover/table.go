package failover

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/countersign/countersign/services/benchmark/internal/report"
	"github.com/countersign/countersign/services/internal/load"
)

// Write writes the report as a table, for people.
func (r *Report) Write(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	o := r.Options
	r.Environment.Write(t)
	fmt.Fprintf(t, "Store\t%d tokens, %d an app\n", o.Tokens, o.TokensPerApp)
	fmt.Fprintf(t, "Callers\t%s questions/s through client.Dial to two validators, %s, each with %s to be answered\n",
		report.Number(o.Rate), o.Arrivals, o.Deadline)
	fmt.Fprintf(t, "Trouble\tof one validator, after %s, for %s, and %s after it; the figures are of the whole\n",
		o.Before, o.During, o.After)
	for _, note := range r.Notes {
		fmt.Fprintf(t, "Note\t%s\n", note)
	}
	fmt.Fprintln(t, "\nOne validator is\tasked in\tquestions\tfailed\tp50\tp99\tslowest\tsent late, p99")
	for _, row := range r.Rows {
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\n", row.Trouble, row.Client, row.Questions, row.failed(),
			load.Micros(row.P50), load.Micros(row.P99), load.Micros(row.Slowest), load.Micros(row.LateP99))
	}
	return t.Flush()
}

// failed writes how many questions failed, and why.
func (r Row) failed() string {
	if r.Failed == 0 {
		return "0"
	}
	var reasons []string
	for _, reason := range slices.Sorted(maps.Keys(r.Errors)) {
		reasons = append(reasons, fmt.Sprintf("%d %s", r.Errors[reason], reason))
	}
	return fmt.Sprintf("%d: %s", r.Failed, strings.Join(reasons, ", "))
}
