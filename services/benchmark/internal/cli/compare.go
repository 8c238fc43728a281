package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/services/benchmark/internal/compare"
	"github.com/countersign/countersign/services/benchmark/internal/testbed"
	"github.com/countersign/countersign/services/internal/cmdline"
	"github.com/countersign/countersign/services/internal/load"
)

func compareCommand(form *cmdline.Format) *cobra.Command {
	o := testbed.Options{Rounds: 11, Arrivals: load.Poisson, Mix: testbed.Mixed, Rates: testbed.Rates{500, 3000}}
	cmd := &cobra.Command{
		Use:   "compare",
		Short: "Measure what a decision costs on this machine, beside an empty server and a service that asks Redis each time",
		Long: `Measure what a decision costs on this machine, beside an empty server and a service that asks Redis
each time.

Each server is a process of this program on a CPU of its own. Servers take turns in rounds. A closed
loop, in which each answer is followed by the next call, shows the CPU time of a call. Open loops at
fixed rates show latencies. Every answer is checked.

A Redis is started when a redis-server is on the PATH; otherwise the validator follows an embedded
store. The validator serves metrics and reports to an authority, as in production. The other servers
do neither. Tuned servers have the validator's settings: 256 stream workers, and GOGC=400. A
validator with many tokens keeps its garbage below 256 MiB.

The legs uncounted and uncounted-stream are validators that count no decisions. Validators hand
their counts over every 10s, so turns of 20s and more show what counting costs.

Other programs on the machine change the figures: compare only figures of one run.`,
		Example: `  benchmark compare --tokens 1000000 --json compare.json --plot compare.svg
  benchmark compare --legs tuned-empty,validator --changes-per-second 1000 --rates 3000
  benchmark compare --legs empty,tuned-empty,validator --tokens 1000000 --resync-every 3s
  benchmark compare --legs validator,uncounted --rates none --duration 20s`,
	}
	turns := newTurnFlags(cmd.Flags(), &o, 2*time.Second, 3*time.Second)
	output := newOutput(form, cmd.Flags()).withPlot(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := turns.complete(cmd); err != nil {
			return err
		}
		if err := check(o); err != nil {
			return err
		}
		return measure(cmd, output, func(ctx context.Context) (*compare.Report, error) { return compare.Run(ctx, o) })
	}
	return cmd
}
