package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/services/benchmark/internal/flood"
	"github.com/countersign/countersign/services/internal/cmdline"
	"github.com/countersign/countersign/services/internal/load"
	"github.com/countersign/countersign/services/internal/settings"
)

func floodCommand(form *cmdline.Format) *cobra.Command {
	o := flood.Options{Arrivals: load.Poisson}
	cmd := &cobra.Command{
		Use:   "flood",
		Short: "Measure what callers get from a validator while others flood it with unknown tokens",
		Long: `Measure what callers get from a validator while others flood it with unknown tokens.

A validator is started like in 'benchmark compare'. Callers with valid tokens ask it at a fixed
rate, whether or not earlier calls are answered. They do so in turn without a flood and with a flood
of unknown tokens on other connections. The report has the callers' latencies, the commands that
Redis runs, and the validator's memory.

Then another validator, with a low bound of calls in flight, gets more calls than it accepts. Each
call must be decided correctly, or fail with RESOURCE_EXHAUSTED.

Every answer is checked, those of the flood too. A wrong answer ends the measurement with an error.`,
		Example: `  benchmark flood --tokens 1000000 --json flood.json
  benchmark flood --rate 1000 --times 10`,
	}
	flags := cmd.Flags()
	flags.Float64Var(&o.Rate, "rate", 500, "`calls` a second of callers with valid tokens")
	flags.Float64Var(&o.Times, "times", 10, "how many `times` as many calls the flood makes")
	flags.IntVar(&o.Rounds, "rounds", 11, "`number` of rounds, each without and with the flood")
	warmUp := settings.Duration(flags, "warm-up", 500*time.Millisecond, 0, longestRun,
		"how long calls are made before each measurement without being measured")
	length := settings.Duration(flags, "duration", 4*time.Second, time.Millisecond, longestRun,
		"how long each measurement takes")
	flags.Var(&o.Arrivals, "arrivals", "how calls follow each other: poisson or constant")
	flags.IntVar(&o.Connections, "connections", 4, "`number` of connections of the callers, and of the flood")
	sizeFlags(flags, &o.Tokens, &o.TokensPerApp)
	flags.IntVar(&o.MaxInFlight, "max-in-flight", 600, "bound of the validator that is overloaded")
	flags.IntVar(&o.InFlight, "in-flight", 4000, "`number` of calls in flight at the validator that is overloaded")
	seedFlag(flags, &o.Seed, "the order of turns, arrivals, and the order of calls")
	output := newOutput(form, flags)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o.WarmUp, o.Time, o.Progress = *warmUp, *length, cmd.ErrOrStderr()
		if err := check(o); err != nil {
			return err
		}
		return measure(cmd, output, func(ctx context.Context) (*flood.Report, error) { return flood.Run(ctx, o) })
	}
	return cmd
}
