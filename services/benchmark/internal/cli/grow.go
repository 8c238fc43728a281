package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/services/benchmark/internal/grow"
	"github.com/countersign/countersign/services/benchmark/internal/testbed"
	"github.com/countersign/countersign/services/internal/cmdline"
	"github.com/countersign/countersign/services/internal/load"
)

func growCommand(form *cmdline.Format) *cobra.Command {
	o := grow.Options{Options: testbed.Options{
		Rounds: 7, Arrivals: load.Poisson, Mix: testbed.Mixed, Rates: testbed.Rates{3000},
	}}
	cmd := &cobra.Command{
		Use:   "grow --by AXIS",
		Short: "Measure how the cost of a decision changes while something grows",
		Long: `Measure how the cost of a decision changes while something grows.

The axis is one of:

  tokens       of the store: 1,000 to 10,000,000, which take gigabytes of memory
  connections  1 to 256, with the same number of calls in flight at all steps
  changes      of policies each second: 0 to 5,000
  validators   that follow the same store and report to one authority: 1 to 100; one is asked
  reasons      tokens that calls carry: valid, unknown, malformed, missing, revoked, and other apps'

Each step is measured like 'benchmark compare', in rounds in which servers take turns. Steps of
connections and reasons take turns too. Every answer is checked.`,
		Example: `  benchmark grow --by tokens --json tokens.json --plot tokens.svg
  benchmark grow --by reasons --rates none
  benchmark grow --by validators --steps 1,10,100 --rounds 3`,
	}
	cmd.Flags().Var(&o.By, "by", "what grows: tokens, connections, changes, validators or reasons (required)")
	cmd.Flags().StringSliceVar(&o.Steps, "steps", nil, "steps on the axis (default the range that is given above)")
	turns := newTurnFlags(cmd.Flags(), &o.Options, time.Second, 2*time.Second)
	cmd.Flag("legs").Usage = "what to measure, as in 'benchmark compare' " +
		"(default the tuned empty server, the validator, and streams where they differ)"
	output := newOutput(form, cmd.Flags()).withPlot(cmd.Flags())
	if err := cmd.MarkFlagRequired("by"); err != nil {
		panic(err) // a mistake in this package: the flag does not exist
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := turns.complete(cmd); err != nil {
			return err
		}
		if err := check(o); err != nil {
			return err
		}
		return measure(cmd, output, func(ctx context.Context) (*grow.Report, error) { return grow.Run(ctx, o) })
	}
	return cmd
}
