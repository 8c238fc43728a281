package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/countersign/internal/client"
	"github.com/countersign/countersign/services/countersign/internal/show"
	"github.com/countersign/countersign/services/countersign/internal/words"
)

func authorizeCommand(g *globals) *cobra.Command {
	request := &countersignv1.AuthorizeRequest{}
	var scope words.Scope
	var file string
	source := words.Choice{Of: request.GetSource().Descriptor()}
	cmd := &cobra.Command{
		Use:   "authorize --app APP --scope SCOPE",
		Short: "Ask a validator about one request, as the ingest tier does",
		Long: `Ask a validator about one request, as the ingest tier does. Without --secret-file the
request carries no token.

Exit codes: 0 ALLOW, 3 DENY, 1 the validator cannot decide or does not answer.`,
		Example: `  countersign authorize --app pezwd5bre2xb --scope events --secret-file backend.secret
  countersign authorize --app pezwd5bre2xb --scope events`,
	}
	flags := cmd.Flags()
	flags.StringVar(&request.AppId, "app", "", "`id` of the app (required)")
	flags.Var(&scope, "scope", "the endpoint that was called: "+words.ScopeNames+" (required)")
	flags.StringVar(&file, "secret-file", "", "`file` with the secret that the request carried; - is the standard input")
	flags.Var(&source, "source", "what sent the request, if not an ordinary backend: google_tag_manager")
	flags.StringVar(&request.MinRevision, "min-revision", "",
		"decide on data that includes the change with this consistency `token`")
	required(cmd, "app", "scope")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if file != "" {
			carried, err := readSecret(cmd, file)
			if err != nil {
				return err
			}
			request.Token = carried.Reveal()
		}
		request.Scope, request.Source = countersignv1.Scope(scope), countersignv1.Source(source.Number)
		to := client.Target{Role: client.Validator, Address: g.validator, Security: g.security, Timeout: *g.timeout}
		return connect(cmd, to, func(ctx context.Context, connection *grpc.ClientConn) error {
			response, err := countersignv1.NewValidatorServiceClient(connection).Authorize(ctx, request)
			if err != nil {
				return err
			}
			if err := g.answer(cmd, response, func(w io.Writer) error { return showDecision(w, response) }); err != nil {
				return err
			}
			switch response.GetDecision() {
			case countersignv1.Decision_DECISION_ALLOW:
				return nil
			case countersignv1.Decision_DECISION_DENY:
				return errDenied
			}
			return fmt.Errorf("the validator answered neither ALLOW nor DENY")
		})
	}
	return cmd
}

func showDecision(w io.Writer, r *countersignv1.AuthorizeResponse) error {
	enforced := "no"
	if r.GetEnforced() {
		enforced = "yes"
	}
	return show.Details(
		w,
		show.Row{Name: "Decision", Value: words.Enum(r.GetDecision())},
		show.Row{Name: "Reason", Value: words.Enum(r.GetReason())},
		show.Row{Name: "Enforced", Value: enforced},
		show.Row{Name: "Token", Value: r.GetTokenId()},
		show.Row{Name: "Revision", Value: fmt.Sprint(r.GetRevision())},
		show.Row{Name: "Data age", Value: words.Span(r.GetDataAge().AsDuration())},
	)
}
