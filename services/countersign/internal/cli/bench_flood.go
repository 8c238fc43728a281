package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/services/countersign/internal/bench"
	"github.com/countersign/countersign/services/internal/load"
	"github.com/countersign/countersign/services/internal/settings"
)

func benchFlood(g *globals) *cobra.Command {
	o := bench.FloodOptions{Arrivals: load.Poisson}
	cmd := &cobra.Command{
		Use:   "flood",
		Short: "Measure what callers have of a validator while others flood it with unknown tokens",
		Long: `Measure what callers have of a validator while others flood it with unknown tokens.

A validator is started as by 'countersign bench compare'. Callers with valid tokens ask it at a fixed rate, whether or not
the calls before are answered, in turn without a flood and with one: unknown tokens, on other connections. Shown are the
callers' latencies, the commands that Redis runs, and the validator's memory. Then another validator, with a low bound of
calls in flight, is asked more than it may take: each call must be decided as is right, or be RESOURCE_EXHAUSTED.

Every answer is checked, those of the flood too; a wrong one makes it fail.`,
		Example: `  countersign bench flood --tokens 1000000 --json flood.json
  countersign bench flood --rate 1000 --times 10`,
	}
	flags := cmd.Flags()
	flags.Float64Var(&o.Rate, "rate", 500, "`calls` a second of callers with valid tokens")
	flags.Float64Var(&o.Times, "times", 10, "how many `times` as many calls the flood makes")
	flags.IntVar(&o.Rounds, "rounds", 11, "`number` of rounds, each without and with the flood")
	warmUp := settings.Duration(flags, "warm-up", 500*time.Millisecond, 0, longestRun, "how long calls are made before each measurement, which do not count")
	length := settings.Duration(flags, "duration", 4*time.Second, time.Millisecond, longestRun, "how long each measurement takes")
	flags.Var(&o.Arrivals, "arrivals", "how calls follow each other: poisson or constant")
	flags.IntVar(&o.Connections, "connections", 4, "`number` of connections of the callers, and of the flood")
	sizeFlags(flags, &o.Tokens, &o.TokensPerApp)
	flags.IntVar(&o.MaxInFlight, "max-in-flight", 600, "that of the validator that is overloaded")
	flags.IntVar(&o.InFlight, "in-flight", 4000, "`number` of calls under way at once at the validator that is overloaded")
	flags.Uint64Var(&o.Seed, "seed", 1, "`number` that decides what is random: the order of turns, arrivals, and the order of calls")
	output := newOutputFlags(flags)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o.WarmUp, o.Time, o.Progress = *warmUp, *length, cmd.ErrOrStderr()
		if err := o.Check(); err != nil {
			return &misuseError{err}
		}
		return measure(g, cmd, output, func(ctx context.Context) (*bench.FloodReport, error) { return bench.Flood(ctx, o) })
	}
	return cmd
}
