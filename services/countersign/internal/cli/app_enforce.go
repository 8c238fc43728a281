package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/countersign/internal/show"
	"github.com/countersign/countersign/services/countersign/internal/words"
	"github.com/countersign/countersign/services/internal/cmdline"
)

func appEnforce(g *globals) *cobra.Command {
	request := &countersignv1.SetEnforcementRequest{}
	var change change
	var sure confirmation
	var scopes words.Scopes
	var length, window words.Days
	until := words.Moment{Absolute: true}
	var ratio float64
	cmd := &cobra.Command{
		Use:   "enforce --app APP (--scopes SCOPES | --all | --off)",
		Short: "Set the scopes for which requests must carry a valid token",
		Long: `Set the scopes for which requests must carry a valid token. They replace the scopes that were
enforced before.

Switching a scope on fails unless the readiness report about it is READY ('countersign app
readiness'). On a terminal the command shows the report first and asks. --dry-run shows it and
changes nothing.

With --for or --until it is a trial: at its end every validator returns by itself to the scopes that
were enforced before. A trial that is made longer, or permanent, needs the report too. The report
counts what the trial rejects.`,
		Example: `  countersign app enforce --app pezwd5bre2xb --all --dry-run
  countersign app enforce --app pezwd5bre2xb --scopes events --for 1h
  countersign app enforce --app pezwd5bre2xb --off`,
	}
	flags := cmd.Flags()
	flags.StringVar(&request.AppId, "app", "", "`id` of the app (required)")
	flags.Var(&scopes, "scopes", "enforce these scopes: "+words.ScopeNames)
	all := flags.Bool("all", false, "enforce "+words.ListScopes(words.ProposedScopes())+": every scope except gdpr")
	off := flags.Bool("off", false, "enforce nothing")
	flags.Var(&length, "for", "enforce only for this long, such as 1h or 2d")
	flags.Var(&until, "until", "enforce only until this time, in RFC 3339")
	flags.BoolVar(&request.ValidateOnly, "dry-run", false, "change nothing; show the result and what would be rejected")
	flags.BoolVar(&request.AllowRejections, "allow-rejections", false, "enforce even if requests will be rejected")
	flags.Float64Var(&ratio, "max-rejected-ratio", 0,
		"share of requests without a known token, 0 to 1, above which enforcing fails (default 0.01)")
	flags.Var(&window, "window", "how far back the readiness report looks, at most 35d (default 24h)")
	flags.StringVar(&request.Etag, "etag", "", "change the app only if it still has this `etag`")
	change.flags(cmd)
	sure.flag(cmd)
	required(cmd, "app")
	cmd.MarkFlagsOneRequired("scopes", "all", "off")
	cmd.MarkFlagsMutuallyExclusive("scopes", "all", "off")
	cmd.MarkFlagsMutuallyExclusive("for", "until")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		switch {
		case *all:
			request.Scopes = words.ProposedScopes()
		case *off:
		case len(scopes) == 0:
			return cmdline.Misuse("want one of --scopes, --all and --off")
		default:
			request.Scopes = scopes
		}
		if err := checkRatio(cmd, ratio); err != nil {
			return err
		}
		if flags.Changed("max-rejected-ratio") {
			request.MaxRejectedRatio = &ratio
		}
		if window != 0 {
			request.ReadinessWindow = durationpb.New(time.Duration(window))
		}
		if flags.Changed("for") {
			after := time.Duration(length).Truncate(time.Millisecond)
			until.After = &after
		}
		request.TrialEndTime, request.TrialDuration = end(&until)
		if request.GetValidateOnly() {
			*change.wait = 0 // no change, so no receipt
			return g.manage(cmd, func(ctx context.Context, authority countersignv1.AuthorityServiceClient) error {
				return g.rehearseEnforce(ctx, cmd, authority, request)
			})
		}
		shown, err := g.askToEnforce(cmd, request, &sure)
		if err != nil {
			return err
		}
		request.RequestId = change.requestID()
		return change.manage(cmd, g, func(ctx context.Context, authority countersignv1.AuthorityServiceClient) (receipted, error) {
			return g.enforce(ctx, cmd, authority, request, &change, shown)
		})
	}
	return cmd
}

// askToEnforce shows a person what enforcement would reject, and asks whether to switch it on. It asks only
// on a terminal, and only when a scope would be switched on or enforced for longer. It returns whether the
// report was shown.
func (g *globals) askToEnforce(cmd *cobra.Command, request *countersignv1.SetEnforcementRequest, sure *confirmation,
) (shown bool, err error) {
	if sure.yes || len(request.GetScopes()) == 0 || !canAsk(cmd) {
		return false, nil
	}
	rehearsal := proto.Clone(request).(*countersignv1.SetEnforcementRequest)
	rehearsal.ValidateOnly = true
	var response *countersignv1.SetEnforcementResponse
	err = g.manage(cmd, func(ctx context.Context, authority countersignv1.AuthorityServiceClient) (err error) {
		response, err = authority.SetEnforcement(ctx, rehearsal)
		return notReady(cmd, err)
	})
	if err != nil {
		return false, err
	}
	report := response.GetReadiness()
	if report == nil && !request.GetAllowRejections() {
		return false, nil
	}
	if err := showReadiness(cmd, report, response.GetWarnings()); err != nil {
		return false, err
	}
	if report.GetVerdict() != countersignv1.ReadinessVerdict_READINESS_VERDICT_READY && !request.GetAllowRejections() {
		return true, &adviceError{errors.New("nothing was changed: the app is " + words.Enum(report.GetVerdict())), notReadyAdvice}
	}
	even := ""
	if request.GetAllowRejections() {
		even = ", even if that rejects requests"
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "This makes app %s enforce %s at %s%s. ", words.Printable(request.GetAppId()),
		words.ListScopes(request.GetScopes()), g.authority, even)
	return true, agreed(cmd, "Turn on?")
}

// rehearseEnforce shows what a change of the enforcement would do.
func (g *globals) rehearseEnforce(ctx context.Context, cmd *cobra.Command, authority countersignv1.AuthorityServiceClient,
	request *countersignv1.SetEnforcementRequest,
) error {
	response, err := authority.SetEnforcement(ctx, request)
	if err != nil {
		return notReady(cmd, err)
	}
	if err := showReadiness(cmd, response.GetReadiness(), response.GetWarnings()); err != nil {
		return err
	}
	fmt.Fprintln(cmd.ErrOrStderr(), "Dry run: nothing was changed. The app would be:")
	return g.answer(cmd, response, func(w io.Writer) error {
		return show.Details(w, show.App(response.GetApp(), time.Now())...)
	})
}

// enforce makes the change. Shown says that the report and the warnings were shown already.
func (g *globals) enforce(ctx context.Context, cmd *cobra.Command, authority countersignv1.AuthorityServiceClient,
	request *countersignv1.SetEnforcementRequest, change *change, shown bool,
) (receipted, error) {
	response, err := authority.SetEnforcement(ctx, request)
	if err != nil {
		return nil, change.outcome(notReady(cmd, err))
	}
	if !shown {
		err = showReadiness(cmd, response.GetReadiness(), response.GetWarnings())
	}
	return response, errors.Join(err, g.answer(cmd, response, func(w io.Writer) error {
		rows := show.App(response.GetApp(), time.Now())
		return show.Details(w, append(rows, show.Row{Name: "Consistency token", Value: response.GetConsistencyToken()})...)
	}), notIgnored("--for", request.GetTrialDuration(), response.GetApp().GetTrialEndTime() != nil))
}

// showReadiness writes a report, if there is one, and warnings to the standard error, which people see.
func showReadiness(cmd *cobra.Command, report *countersignv1.Readiness, warnings []string) error {
	if report != nil {
		if err := show.Readiness(cmd.ErrOrStderr(), report, styleOf(cmd.ErrOrStderr()), time.Now(), true); err != nil {
			return err
		}
		fmt.Fprintln(cmd.ErrOrStderr())
	}
	for _, warning := range warnings {
		if !slices.Contains(report.GetWarnings(), warning) {
			fmt.Fprintln(cmd.ErrOrStderr(), "Warning:", words.Printable(warning))
		}
	}
	return nil
}
