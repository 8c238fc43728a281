package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/pkg/client"
	"github.com/countersign/countersign/services/benchmark/internal/failover"
	"github.com/countersign/countersign/services/benchmark/internal/report"
	"github.com/countersign/countersign/services/internal/cmdline"
	"github.com/countersign/countersign/services/internal/load"
	"github.com/countersign/countersign/services/internal/settings"
)

func failoverCommand(form *cmdline.Format) *cobra.Command {
	o := failover.Options{Arrivals: load.Poisson}
	cmd := &cobra.Command{
		Use:   "failover",
		Short: "Measure what callers get from two validators while one of them is in trouble",
		Long: `Measure what callers get from two validators while one of them is in trouble.

Two validators are started like in 'benchmark compare'. The Go client's Dial asks both at a fixed
rate, in unary calls and over streams. Each question has a deadline. One of the validators is
restarted, not loaded, hung (SIGSTOP), or vanished (a relay drops every byte). The report has the
number of failed questions and the time to an answer. Both are over the whole time: before, during
and after the trouble.

Every answer is checked. A wrong answer ends the measurement with an error.`,
		Example: `  benchmark failover --json failover.json
  benchmark failover --troubles hung,vanished --rate 2000 --during 1m`,
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&o.Troubles, "troubles", nil,
		"what happens, of "+report.List(failover.Troubles)+" (default everything)")
	flags.Float64Var(&o.Rate, "rate", 500, "`questions` a second")
	flags.Var(&o.Arrivals, "arrivals", "how questions follow each other: poisson or constant")
	duration := func(name string, value, least time.Duration, usage string) *time.Duration {
		return settings.Duration(flags, name, value, least, longestRun, usage)
	}
	deadline := duration("deadline", client.DefaultTimeout, time.Millisecond, "how long each question may take")
	before := duration("before", 3*time.Second, 0, "how long questions are asked before the trouble")
	during := duration("during", 20*time.Second, time.Millisecond, "how long the trouble lasts")
	after := duration("after", 7*time.Second, 0, "how long questions are asked after the trouble")
	sizeFlags(flags, &o.Tokens, &o.TokensPerApp)
	seedFlag(flags, &o.Seed, "arrivals, and the order of questions")
	output := newOutput(form, flags)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o.Deadline, o.Before, o.During, o.After, o.Progress = *deadline, *before, *during, *after, cmd.ErrOrStderr()
		if err := check(o); err != nil {
			return err
		}
		return measure(cmd, output, func(ctx context.Context) (*failover.Report, error) { return failover.Run(ctx, o) })
	}
	return cmd
}
