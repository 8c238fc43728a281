package cli

import (
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/countersign/countersign/services/benchmark/internal/testbed"
	"github.com/countersign/countersign/services/internal/cmdline"
	"github.com/countersign/countersign/services/internal/load"
	"github.com/countersign/countersign/services/internal/settings"
)

// longestRun bounds every part of a measurement.
const longestRun = 24 * time.Hour

// turnFlags are the flags of commands in which servers take turns.
type turnFlags struct {
	options                               *testbed.Options
	warmUp, length, openTime, resyncEvery *time.Duration
}

// newTurnFlags adds the flags. The defaults are length and openTime, and the values that the options already
// have.
func newTurnFlags(flags *pflag.FlagSet, o *testbed.Options, length, openTime time.Duration) *turnFlags {
	f := &turnFlags{options: o}
	flags.StringSliceVar(&o.Legs, "legs", nil,
		"what to compare, of "+strings.Join(testbed.LegNames(), ", ")+" (default everything but uncounted ones)")
	flags.IntVar(&o.Rounds, "rounds", o.Rounds, "`number` of rounds")
	f.warmUp = settings.Duration(flags, "warm-up", 500*time.Millisecond, 0, longestRun,
		"how long calls are made at the beginning of each turn without being measured")
	f.length = settings.Duration(flags, "duration", length, 0, longestRun,
		"how long the closed loop of a turn takes; 0 is until --count")
	flags.Uint64Var(&o.Closed.Calls, "count", 0, "`number` of calls after which the closed loop of a turn ends; 0 is no limit")
	f.openTime = settings.Duration(flags, "open-duration", openTime, time.Millisecond, longestRun,
		"how long calls are sent at each of --rates in a turn")
	flags.Var(&o.Rates, "rates", "calls a second of the open loops, or none")
	flags.Var(&o.Arrivals, "arrivals", "how calls of the open loops follow each other: poisson or constant")
	flags.IntVar(&o.Connections, "connections", 4, "`number` of connections")
	flags.IntVar(&o.InFlight, "in-flight", 32, "`number` of calls in flight, on all connections together")
	sizeFlags(flags, &o.Tokens, &o.TokensPerApp)
	flags.Var(&o.Mix, "mix", "tokens that calls carry: valid, unknown, malformed, missing, revoked, "+
		"others (valid for another app), or mixed (mostly valid; unknown, revoked, others and missing among them)")
	flags.Float64Var(&o.ChangesPerSecond, "changes-per-second", 0,
		"`number` of policies that are changed each second during all rounds")
	f.resyncEvery = settings.Duration(flags, "resync-every", 0, 0, longestRun,
		"time between two resyncs of a validator in its turn: it is cut off from Redis until the log no longer reaches back, "+
			"and loads the whole store again; 0 is never")
	flags.IntVar(&o.Validators, "validators", 1,
		"`number` of validators that follow the store and report to the authority, the measured one included")
	seedFlag(flags, &o.Seed, "the order of turns, arrivals, and the order of calls")
	return f
}

// complete copies the times into the options. It returns an error when the closed loop has no end.
func (f *turnFlags) complete(cmd *cobra.Command) error {
	o := f.options
	o.WarmUp, o.Closed.Time, o.OpenTime, o.ResyncEvery = *f.warmUp, *f.length, *f.openTime, *f.resyncEvery
	o.Progress = cmd.ErrOrStderr()
	if o.Closed == (load.Limits{}) {
		return cmdline.Misuse("--duration: want an end, or --count")
	}
	return nil
}

// sizeFlags adds the flags for the size of the store.
func sizeFlags(flags *pflag.FlagSet, tokens, tokensPerApp *int) {
	flags.IntVar(tokens, "tokens", 100_000, "`number` of tokens of the store")
	flags.IntVar(tokensPerApp, "tokens-per-app", 10, "`number` of tokens of each app")
}

func seedFlag(flags *pflag.FlagSet, seed *uint64, what string) {
	flags.Uint64Var(seed, "seed", 1, "`number` that decides what is random: "+what)
}

// check marks an error of the options as one of the command line.
func check(options interface{ Check() error }) error {
	if err := options.Check(); err != nil {
		return cmdline.AsMisuse(err)
	}
	return nil
}
