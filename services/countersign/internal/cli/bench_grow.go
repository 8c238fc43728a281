package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/services/countersign/internal/bench"
	"github.com/countersign/countersign/services/internal/load"
)

func benchGrow(g *globals) *cobra.Command {
	o := bench.GrowOptions{Options: bench.Options{Rounds: 7, Arrivals: load.Poisson, Mix: bench.Mixed, Rates: bench.Rates{3000}}}
	cmd := &cobra.Command{
		Use:   "grow --by AXIS",
		Short: "Measure what becomes of the cost of a decision while something grows",
		Long: `Measure what becomes of the cost of a decision while something grows.

Something is one of:

  tokens       of the store: 1,000 to 10,000,000, which take gigabytes of memory
  connections  1 to 256, with as many calls in flight at all steps
  changes      of policies each second: 0 to 5,000
  validators   that follow the same store and report to the same authority: 1 to 100, of which one is asked
  reasons      what calls carry: valid tokens, unknown, malformed, missing, revoked, and other apps' ones

At each step it is measured as by 'countersign bench compare', in rounds in which servers take turns; connections and
reasons take turns, too. Every answer is checked.`,
		Example: `  countersign bench grow --by tokens --json tokens.json --plot tokens.svg
  countersign bench grow --by reasons --rates none
  countersign bench grow --by validators --steps 1,10,100 --rounds 3`,
	}
	cmd.Flags().Var(&o.By, "by", "what grows: tokens, connections, changes, validators or reasons (required)")
	cmd.Flags().StringSliceVar(&o.Steps, "steps", nil, "how much there is of it, step by step (default what is said above)")
	turns := newTurnFlags(cmd.Flags(), &o.Options, time.Second, 2*time.Second)
	cmd.Flag("legs").Usage = "what to measure, as in 'countersign bench compare' (default the tuned empty server, the validator, and streams where they differ)"
	output := newOutputFlags(cmd.Flags()).withPlot(cmd.Flags())
	required(cmd, "by")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := turns.complete(cmd); err != nil {
			return err
		}
		if err := o.Check(); err != nil {
			return &misuseError{err}
		}
		return measure(g, cmd, output, func(ctx context.Context) (*bench.Growth, error) { return bench.Grow(ctx, o) })
	}
	return cmd
}
