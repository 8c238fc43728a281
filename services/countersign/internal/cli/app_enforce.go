package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

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
	var length words.Days
	until := words.Moment{Absolute: true}
	var ratio float64
	cmd := &cobra.Command{
		Use:   "enforce --app APP (--scopes SCOPES | --all | --off)",
		Short: "Set the scopes for which requests must carry a valid token",
		Long: `Set the scopes for which requests must carry a valid token. They replace the scopes that were
enforced before.

With --for or --until it is a trial: at its end every validator returns by itself to the scopes that
were enforced before.`,
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
	flags.BoolVar(&request.ValidateOnly, "dry-run", false, "change nothing; show the result")
	flags.BoolVar(&request.AllowRejections, "allow-rejections", false, "enforce even if requests will be rejected")
	flags.Float64Var(&ratio, "max-rejected-ratio", 0,
		"share of requests without a known token, 0 to 1, above which enforcing fails (default 0.01)")
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
		if flags.Changed("max-rejected-ratio") {
			if !(ratio >= 0 && ratio <= 1) { // rejects NaN too
				return cmdline.Misuse("--max-rejected-ratio: want a number from 0 to 1")
			}
			request.MaxRejectedRatio = &ratio
		}
		if flags.Changed("for") {
			after := time.Duration(length).Truncate(time.Millisecond)
			until.After = &after
		}
		request.TrialEndTime, request.TrialDuration = end(&until)
		if request.GetAllowRejections() && !request.GetValidateOnly() {
			if err := sure.ask(cmd, "This makes app %s enforce %s at %s, even if that rejects requests that are accepted now.",
				words.Printable(request.GetAppId()), words.ListScopes(request.GetScopes()), g.authority); err != nil {
				return err
			}
		}
		request.RequestId = change.requestID()
		if request.GetValidateOnly() {
			*change.wait = 0 // no change, so no receipt
		}
		return change.manage(cmd, g, func(ctx context.Context, authority countersignv1.AuthorityServiceClient) (receipted, error) {
			return g.enforce(ctx, cmd, authority, request, &change)
		})
	}
	return cmd
}

func (g *globals) enforce(ctx context.Context, cmd *cobra.Command, authority countersignv1.AuthorityServiceClient,
	request *countersignv1.SetEnforcementRequest, change *change,
) (receipted, error) {
	response, err := authority.SetEnforcement(ctx, request)
	if err != nil && request.GetValidateOnly() {
		return nil, err
	}
	if err != nil {
		return nil, change.outcome(err)
	}
	for _, warning := range response.GetWarnings() {
		fmt.Fprintln(cmd.ErrOrStderr(), "Warning:", words.Printable(warning))
	}
	if request.GetValidateOnly() {
		fmt.Fprintln(cmd.ErrOrStderr(), "Dry run: nothing was changed. The app would be:")
	}
	return response, errors.Join(g.answer(cmd, response, func(w io.Writer) error {
		rows := show.App(response.GetApp(), time.Now())
		return show.Details(w, append(rows, show.Row{Name: "Consistency token", Value: response.GetConsistencyToken()})...)
	}), notIgnored("--for", request.GetTrialDuration(), response.GetApp().GetTrialEndTime() != nil))
}
