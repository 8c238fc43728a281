package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/pkg/client"
	"github.com/countersign/countersign/services/countersign/internal/bench"
	"github.com/countersign/countersign/services/internal/load"
	"github.com/countersign/countersign/services/internal/settings"
)

func benchFailover(g *globals) *cobra.Command {
	o := bench.FailoverOptions{Arrivals: load.Poisson}
	cmd := &cobra.Command{
		Use:   "failover",
		Short: "Measure what callers have of two validators while one of them is in trouble",
		Long: `Measure what callers have of two validators while one of them is in trouble.

Two validators are started as by 'countersign bench compare', and asked at a fixed rate through the Go client's Dial, in calls
and over streams, each question with a deadline. One of the two is restarted, not loaded, hung (SIGSTOP), or vanished (a relay
swallows every byte). Shown is how many questions failed, and how long answers took, over the whole time: before, during
and after the trouble.

Every answer is checked; a wrong one makes it fail.`,
		Example: `  countersign bench failover --json failover.json
  countersign bench failover --troubles hung,vanished --rate 2000 --during 1m`,
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&o.Troubles, "troubles", nil, "what happens, of "+bench.TroubleNames()+" (default everything)")
	flags.Float64Var(&o.Rate, "rate", 500, "`questions` a second")
	flags.Var(&o.Arrivals, "arrivals", "how questions follow each other: poisson or constant")
	deadline := settings.Duration(flags, "deadline", client.DefaultTimeout, time.Millisecond, longestRun, "how long each question may take")
	before := settings.Duration(flags, "before", 3*time.Second, 0, longestRun, "how long is asked before the trouble")
	during := settings.Duration(flags, "during", 20*time.Second, time.Millisecond, longestRun, "how long the trouble lasts")
	after := settings.Duration(flags, "after", 7*time.Second, 0, longestRun, "how long is asked when it is over")
	sizeFlags(flags, &o.Tokens, &o.TokensPerApp)
	flags.Uint64Var(&o.Seed, "seed", 1, "`number` that decides what is random: arrivals, and the order of questions")
	output := newOutputFlags(flags)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o.Deadline, o.Before, o.During, o.After, o.Progress = *deadline, *before, *during, *after, cmd.ErrOrStderr()
		if err := o.Check(); err != nil {
			return &misuseError{err}
		}
		return measure(g, cmd, output, func(ctx context.Context) (*bench.FailoverReport, error) { return bench.Failover(ctx, o) })
	}
	return cmd
}
