package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/pkg/grpcserver"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/countersign/internal/bench"
	"github.com/countersign/countersign/services/countersign/internal/client"
	"github.com/countersign/countersign/services/countersign/internal/show"
	"github.com/countersign/countersign/services/countersign/internal/words"
	"github.com/countersign/countersign/services/internal/cmdline"
	"github.com/countersign/countersign/services/internal/load"
	"github.com/countersign/countersign/services/internal/settings"
)

// longestRun bounds every part of a measurement.
const longestRun = 24 * time.Hour

// benchFlags are the flags of bench.
type benchFlags struct {
	target         client.Address
	app            string
	scope          words.Scope
	secretFiles    []string
	decision       words.Choice
	reason         words.Choice
	options        bench.TargetOptions
	warmUp, length *time.Duration
	json           string
}

func benchCommand(g *globals) *cobra.Command {
	var request countersignv1.AuthorizeResponse
	f := &benchFlags{
		target: g.validator, decision: words.Choice{Of: request.GetDecision().Descriptor()},
		reason: words.Choice{Of: request.GetReason().Descriptor()},
	}
	f.options.Arrivals = load.Poisson
	cmd := &cobra.Command{
		Use:   "bench --app APP --scope SCOPE --expect DECISION",
		Short: "Put load on a validator, and compare every decision with the expected one",
		Long: `Put load on a validator, and compare every decision with the expected one.

Without --rate, as many calls are in flight as --in-flight says: each answer is followed by the next
call. With --rate, calls are sent at that rate, whether or not earlier calls are answered, and their
latency counts from when they were due. Calls carry the secrets of --secret-file in random order, or
no token.

Exit code 0 means that every decision was the expected one.`,
		Example: `  countersign bench --app pezwd5bre2xb --scope events --secret-file backend.secret --expect allow
  countersign bench --app pezwd5bre2xb --scope events --expect deny --rate 3000 --duration 1m`,
	}
	flags := cmd.Flags()
	flags.Var(&f.target, "target", "address of the validator (default the address of --validator)")
	flags.Lookup("target").DefValue = "" // the default is known only after the flags are parsed
	flags.StringVar(&f.app, "app", "", "`id` of the app (required)")
	flags.Var(&f.scope, "scope", "endpoint that calls are for: "+words.ScopeNames+" (required)")
	flags.StringArrayVar(&f.secretFiles, "secret-file", nil,
		"`file` with a secret that calls carry; may be repeated (default no token)")
	flags.Var(&f.decision, "expect", "the right decision: allow or deny (required)")
	flags.Var(&f.reason, "expect-reason", "the right reason, such as token_valid (default any)")
	flags.IntVar(&f.options.Connections, "connections", 4, "`number` of connections")
	flags.IntVar(&f.options.InFlight, "in-flight", 32, "`number` of calls in flight, on all connections together")
	flags.Float64Var(&f.options.Rate, "rate", 0,
		"`calls` a second, whether or not earlier calls are answered; 0 is as many as are answered")
	flags.Var(&f.options.Arrivals, "arrivals", "how calls of --rate follow each other: poisson or constant")
	f.length = settings.Duration(flags, "duration", 10*time.Second, 0, longestRun,
		"how long calls are sent; 0 is until --count")
	flags.Uint64Var(&f.options.Limits.Calls, "count", 0, "`number` of calls after which to stop; 0 is no limit")
	f.warmUp = settings.Duration(flags, "warm-up", time.Second, 0, longestRun,
		"how long calls are made before that without being measured")
	flags.Uint64Var(&f.options.Seed, "seed", 1, "`number` that decides what is random: arrivals, and the order of calls")
	flags.StringVar(&f.json, "json", "", "`file` to which the result is written too")
	required(cmd, "app", "scope", "expect")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return f.run(cmd, g) }
	return cmd
}

func (f *benchFlags) run(cmd *cobra.Command, g *globals) error {
	o := f.options
	if !cmd.Flag("target").Changed {
		f.target = g.validator
	}
	o.WarmUp, o.Limits.Time = *f.warmUp, *f.length
	if err := o.Check(); err != nil {
		return cmdline.AsMisuse(err)
	}
	if o.Limits == (load.Limits{}) {
		return cmdline.Misuse("--duration: want an end, or --count")
	}
	var err error
	if o.Questions, err = f.questions(cmd); err != nil {
		return err
	}
	if o.Endpoint, err = endpointOf(g, f.target); err != nil {
		return err
	}
	ctx, stop := grpcserver.SignalContext(cmd.Context())
	defer stop()
	r, err := bench.Target(ctx, o)
	if err != nil {
		return err
	}
	if err := cmdline.WriteFile("--json", f.json, func(w io.Writer) error { return show.Value(w, r) }); err != nil {
		return err
	}
	if err := g.answerValue(cmd, r, r.Write); err != nil {
		return err
	}
	return r.Err()
}

// questions returns a question for each secret; without secrets, one question without a token.
func (f *benchFlags) questions(cmd *cobra.Command) ([]load.Question, error) {
	want := load.Answer{Decision: countersignv1.Decision(f.decision.Number), Reason: countersignv1.Reason(f.reason.Number)}
	tokens := []string{""}
	if len(f.secretFiles) > 0 {
		tokens = nil
	}
	for _, file := range f.secretFiles {
		carried, err := readSecret(cmd, file)
		if err != nil {
			return nil, err
		}
		tokens = append(tokens, carried.Reveal())
	}
	var questions []load.Question
	for _, token := range tokens {
		q, err := load.NewQuestion(&countersignv1.AuthorizeRequest{
			AppId: f.app, Token: token, Scope: countersignv1.Scope(f.scope),
		}, want)
		if err != nil {
			return nil, fmt.Errorf("--secret-file: %w", err)
		}
		questions = append(questions, q)
	}
	return questions, nil
}

// endpointOf returns the endpoint of the validator at an address.
func endpointOf(g *globals, address client.Address) (load.Endpoint, error) {
	transport, err := g.security.Credentials(address)
	if errors.Is(err, client.ErrContradiction) {
		return load.Endpoint{}, cmdline.Misuse("--tls and --plaintext contradict each other")
	}
	if err != nil {
		return load.Endpoint{}, fmt.Errorf("--tls-ca-file: %w", err)
	}
	return load.Endpoint{
		Address: address.String(), Method: load.AuthorizeMethod, Credentials: transport, Decode: load.DecodeAuthorize,
		Dial: func(ctx context.Context) (net.Conn, error) { return dialOne(ctx, g.security, address) },
	}, nil
}

// dialOne connects to one of the address's hosts.
func dialOne(ctx context.Context, security client.Security, address client.Address) (net.Conn, error) {
	_, port, err := net.SplitHostPort(address.String())
	if err != nil {
		return nil, err
	}
	hosts, err := net.DefaultResolver.LookupHost(ctx, address.Host())
	if err != nil {
		return nil, err
	}
	var failed []error
	for _, host := range hosts {
		connection, err := security.Dial(ctx, address, net.JoinHostPort(host, port))
		if err == nil {
			return connection, nil
		}
		failed = append(failed, err)
	}
	return nil, fmt.Errorf("nothing answers at %s: is the validator running? (%w)", address.String(), errors.Join(failed...))
}
