package cli

import (
	"errors"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/pkg/grpcserver"
	"github.com/countersign/countersign/services/countersign/internal/bench"
	"github.com/countersign/countersign/services/countersign/internal/bench/load"
	"github.com/countersign/countersign/services/countersign/internal/bench/serve"
	"github.com/countersign/countersign/services/countersign/internal/show"
	"github.com/countersign/countersign/services/internal/settings"
)

func benchCompare(g *globals) *cobra.Command {
	o := bench.Options{Arrivals: load.Poisson, Mix: bench.Mixed, Rates: bench.Rates{500, 3000}}
	var jsonFile, plotFile string
	cmd := &cobra.Command{
		Use:   "compare",
		Short: "Measure what a decision costs on this machine, beside an empty server and a service that asks Redis each time",
		Long: `Measure what a decision costs on this machine, beside an empty server and a service that asks Redis each time.

Servers are processes of this program, each on a CPU of its own, and take turns in rounds: first as many calls as are
answered, which shows the CPU time of each, and then calls at fixed rates, which show latencies. Every answer is checked.
A Redis is started when there is a redis-server on the PATH; without one the validator follows an embedded store. The
validator has its metrics, and reports to an authority, as in production. The other servers have neither.
What else runs on the machine is in the figures: compare those of one run with each other.`,
		Example: `  countersign bench compare --tokens 1000000 --json compare.json --plot compare.svg
  countersign bench compare --legs tuned-empty,validator --changes-per-second 1000 --rates 3000`,
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&o.Legs, "legs", nil, "what to compare, of "+strings.Join(bench.LegNames(), ", ")+" (default everything)")
	flags.IntVar(&o.Rounds, "rounds", 11, "`number` of rounds")
	warmUp := settings.Duration(flags, "warm-up", 500*time.Millisecond, 0, longestRun, "how long calls are made at the beginning of each turn, which do not count")
	length := settings.Duration(flags, "duration", 2*time.Second, 0, longestRun, "how long the closed loop of a turn takes; 0 is until --count")
	flags.Uint64Var(&o.Closed.Calls, "count", 0, "`number` of calls after which the closed loop of a turn ends; 0 is none")
	openTime := settings.Duration(flags, "open-duration", 3*time.Second, time.Millisecond, longestRun, "how long calls are sent at each of --rates in a turn")
	flags.Var(&o.Rates, "rates", "calls a second of the open loops, or none")
	flags.Var(&o.Arrivals, "arrivals", "how calls of the open loops follow each other: poisson or constant")
	flags.IntVar(&o.Connections, "connections", 4, "`number` of connections")
	flags.IntVar(&o.InFlight, "in-flight", 32, "`number` of calls under way at once, on all connections together")
	flags.IntVar(&o.Tokens, "tokens", 100_000, "`number` of tokens of the store")
	flags.IntVar(&o.TokensPerApp, "tokens-per-app", 10, "`number` of tokens of each app")
	flags.Var(&o.Mix, "mix", "what calls carry: valid tokens, unknown ones, or mixed (mostly valid; unknown, revoked, other apps' and none among them)")
	flags.Float64Var(&o.ChangesPerSecond, "changes-per-second", 0, "`number` of policies that are changed each second all the while")
	flags.Uint64Var(&o.Seed, "seed", 1, "`number` that decides what is random: the order of turns, arrivals, and the order of calls")
	flags.StringVar(&jsonFile, "json", "", "`file` to write all rounds to")
	flags.StringVar(&plotFile, "plot", "", "`file` to write a picture to, in SVG")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o.WarmUp, o.Closed.Time, o.OpenTime, o.Progress = *warmUp, *length, *openTime, cmd.ErrOrStderr()
		if err := o.Check(); err != nil {
			return &misuseError{err}
		}
		if o.Closed == (load.Limits{}) {
			return misuse("--duration: want an end, or --count")
		}
		ctx, stop := grpcserver.SignalContext(cmd.Context())
		defer stop()
		r, err := bench.Compare(ctx, o)
		if ctx.Err() != nil {
			return errors.New("interrupted: there is no result")
		}
		if err != nil {
			return err
		}
		if err := writeFile("--json", jsonFile, func(w io.Writer) error { return show.Value(w, r) }); err != nil {
			return err
		}
		if err := writeFile("--plot", plotFile, r.Plot); err != nil {
			return err
		}
		return g.answerValue(cmd, r, r.Write)
	}
	return cmd
}

// benchServe is what the child processes of a comparison are.
func benchServe() *cobra.Command {
	return &cobra.Command{
		Use:     "serve",
		Short:   "Be a server of 'countersign bench compare', which starts it",
		Example: "  countersign bench serve",
		Hidden:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return serve.Main(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
}
