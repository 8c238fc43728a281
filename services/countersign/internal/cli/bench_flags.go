package cli

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/countersign/countersign/pkg/grpcserver"
	"github.com/countersign/countersign/services/countersign/internal/bench"
	"github.com/countersign/countersign/services/countersign/internal/show"
	"github.com/countersign/countersign/services/internal/load"
	"github.com/countersign/countersign/services/internal/settings"
)

// turnFlags are those of commands in which servers take turns.
type turnFlags struct {
	options                               *bench.Options
	warmUp, length, openTime, resyncEvery *time.Duration
}

// newTurnFlags adds the flags, whose defaults for times are given. What the options hold are the defaults
// of the others.
func newTurnFlags(flags *pflag.FlagSet, o *bench.Options, length, openTime time.Duration) *turnFlags {
	f := &turnFlags{options: o}
	flags.StringSliceVar(&o.Legs, "legs", nil, "what to compare, of "+strings.Join(bench.LegNames(), ", ")+" (default everything)")
	flags.IntVar(&o.Rounds, "rounds", o.Rounds, "`number` of rounds")
	f.warmUp = settings.Duration(flags, "warm-up", 500*time.Millisecond, 0, longestRun, "how long calls are made at the beginning of each turn, which do not count")
	f.length = settings.Duration(flags, "duration", length, 0, longestRun, "how long the closed loop of a turn takes; 0 is until --count")
	flags.Uint64Var(&o.Closed.Calls, "count", 0, "`number` of calls after which the closed loop of a turn ends; 0 is none")
	f.openTime = settings.Duration(flags, "open-duration", openTime, time.Millisecond, longestRun, "how long calls are sent at each of --rates in a turn")
	flags.Var(&o.Rates, "rates", "calls a second of the open loops, or none")
	flags.Var(&o.Arrivals, "arrivals", "how calls of the open loops follow each other: poisson or constant")
	flags.IntVar(&o.Connections, "connections", 4, "`number` of connections")
	flags.IntVar(&o.InFlight, "in-flight", 32, "`number` of calls under way at once, on all connections together")
	sizeFlags(flags, &o.Tokens, &o.TokensPerApp)
	flags.Var(&o.Mix, "mix", "what calls carry: valid tokens, unknown, malformed, missing, revoked or others' ones, or mixed (mostly valid; unknown, revoked, other apps' and none among them)")
	flags.Float64Var(&o.ChangesPerSecond, "changes-per-second", 0, "`number` of policies that are changed each second all the while")
	f.resyncEvery = settings.Duration(flags, "resync-every", 0, 0, longestRun, "how often a validator loads the whole store anew while it is measured, in a way that happens: cut off from Redis for longer than the log reaches back; 0 is never")
	flags.IntVar(&o.Validators, "validators", 1, "`number` of validators that follow the store and report to the authority, with the one that is measured")
	flags.Uint64Var(&o.Seed, "seed", 1, "`number` that decides what is random: the order of turns, arrivals, and the order of calls")
	return f
}

// complete puts into the options what was not put there directly. Its error says that there is no end.
func (f *turnFlags) complete(cmd *cobra.Command) error {
	o := f.options
	o.WarmUp, o.Closed.Time, o.OpenTime, o.ResyncEvery, o.Progress = *f.warmUp, *f.length, *f.openTime, *f.resyncEvery, cmd.ErrOrStderr()
	if o.Closed == (load.Limits{}) {
		return misuse("--duration: want an end, or --count")
	}
	return nil
}

// outputFlags say where a result goes beside the standard output.
type outputFlags struct{ json, plot string }

func newOutputFlags(flags *pflag.FlagSet) *outputFlags {
	f := &outputFlags{}
	flags.StringVar(&f.json, "json", "", "`file` to write all rounds to")
	return f
}

func (f *outputFlags) withPlot(flags *pflag.FlagSet) *outputFlags {
	flags.StringVar(&f.plot, "plot", "", "`file` to write a picture to, in SVG")
	return f
}

// writable is what a measurement comes to.
type writable interface{ Write(w io.Writer) error }

// answer writes a result wherever it is to go.
func (f *outputFlags) answer(g *globals, cmd *cobra.Command, r writable) error {
	if err := writeFile("--json", f.json, func(w io.Writer) error { return show.Value(w, r) }); err != nil {
		return err
	}
	if picture, has := r.(interface{ Plot(w io.Writer) error }); has {
		if err := writeFile("--plot", f.plot, picture.Plot); err != nil {
			return err
		}
	}
	return g.answerValue(cmd, r, r.Write)
}

// measure runs a measurement until it has ended, or the person ends it.
func measure[R writable](g *globals, cmd *cobra.Command, f *outputFlags, run func(ctx context.Context) (R, error)) error {
	ctx, stop := grpcserver.SignalContext(cmd.Context())
	defer stop()
	r, err := run(ctx)
	if ctx.Err() != nil {
		return errors.New("interrupted: there is no result")
	}
	if err != nil {
		return err
	}
	return f.answer(g, cmd, r)
}

// sizeFlags adds the flags that say how much the store has.
func sizeFlags(flags *pflag.FlagSet, tokens, tokensPerApp *int) {
	flags.IntVar(tokens, "tokens", 100_000, "`number` of tokens of the store")
	flags.IntVar(tokensPerApp, "tokens-per-app", 10, "`number` of tokens of each app")
}
