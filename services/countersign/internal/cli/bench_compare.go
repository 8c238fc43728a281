package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/services/countersign/internal/bench"
	"github.com/countersign/countersign/services/countersign/internal/bench/serve"
	"github.com/countersign/countersign/services/internal/load"
)

func benchCompare(g *globals) *cobra.Command {
	o := bench.Options{Rounds: 11, Arrivals: load.Poisson, Mix: bench.Mixed, Rates: bench.Rates{500, 3000}}
	cmd := &cobra.Command{
		Use:   "compare",
		Short: "Measure what a decision costs on this machine, beside an empty server and a service that asks Redis each time",
		Long: `Measure what a decision costs on this machine, beside an empty server and a service that asks Redis each time.

Servers are processes of this program, each on a CPU of its own, and take turns in rounds: first as many calls as are
answered, which shows the CPU time of each, and then calls at fixed rates, which show latencies. Every answer is checked.
A Redis is started when there is a redis-server on the PATH; without one the validator follows an embedded store. The
validator has its metrics, and reports to an authority, as in production. The other servers have neither. Servers that are
tuned have the validator's settings: 256 stream workers, and GOGC=400. A validator with many tokens keeps its garbage below 256 MiB.
What else runs on the machine is in the figures: compare those of one run with each other.`,
		Example: `  countersign bench compare --tokens 1000000 --json compare.json --plot compare.svg
  countersign bench compare --legs tuned-empty,validator --changes-per-second 1000 --rates 3000
  countersign bench compare --legs empty,tuned-empty,validator --tokens 1000000 --resync-every 3s`,
	}
	turns := newTurnFlags(cmd.Flags(), &o, 2*time.Second, 3*time.Second)
	output := newOutputFlags(cmd.Flags()).withPlot(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := turns.complete(cmd); err != nil {
			return err
		}
		if err := o.Check(); err != nil {
			return &misuseError{err}
		}
		return measure(g, cmd, output, func(ctx context.Context) (*bench.Report, error) { return bench.Compare(ctx, o) })
	}
	return cmd
}

// benchServe is what the child processes of a comparison are.
func benchServe() *cobra.Command {
	return &cobra.Command{
		Use:     "serve",
		Short:   "Be a server of 'countersign bench compare' and its like, which start it",
		Example: "  countersign bench serve",
		Hidden:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return serve.Main(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
}
