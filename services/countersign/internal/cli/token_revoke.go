package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/status"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/countersign/internal/show"
	"github.com/countersign/countersign/services/countersign/internal/words"
)

// revocation are the flags of a revocation.
type revocation struct {
	which                whichToken
	file                 string
	allowLockout, dryRun bool
	change               change
	sure                 confirmation
}

func tokenRevoke(g *globals) *cobra.Command {
	r := &revocation{}
	cmd := &cobra.Command{
		Use:   "revoke (--app APP (--token TOKEN | --name NAME) | --secret-file FILE)",
		Short: "Revoke a token for ever, by its id, its name or its leaked secret",
		Long: `Revoke a token for ever, by its id, its name or its leaked secret.

With --secret-file the command revokes the secret in every app that has it, and lists the tokens. If
an app cannot be changed, or would be locked out, the other apps are still changed. The command then
names that app and fails. You can repeat it.

With --dry-run nothing is changed, and the command says who would notice.`,
		Example: `  countersign token revoke --app pezwd5bre2xb --token tok_mq4ys3xkpe5rj2ha --dry-run
  countersign token revoke --app pezwd5bre2xb --name backend
  countersign token revoke --secret-file -   (paste the secret, which is not shown, then Enter)`,
	}
	flags := cmd.Flags()
	r.which.add(cmd, "`id` of the app", nameHelp)
	flags.StringVar(&r.file, "secret-file", "", "`file` with the leaked secret; - is the standard input")
	flags.BoolVar(&r.dryRun, "dry-run", false, "change nothing; show the result and who would notice")
	lockoutFlag(cmd, &r.allowLockout)
	r.change.flags(cmd)
	r.sure.flag(cmd)
	cmd.MarkFlagsOneRequired("token", "name", "secret-file")
	cmd.MarkFlagsMutuallyExclusive("token", "name", "secret-file")
	cmd.MarkFlagsMutuallyExclusive("app", "secret-file")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		switch {
		case r.file != "" && r.dryRun:
			return r.rehearseSecret(cmd, g)
		case r.file != "":
			return r.secret(cmd, g)
		}
		tokenID, err := r.which.find(cmd, g)
		if err != nil {
			return err
		}
		request := &countersignv1.RevokeTokenRequest{AppId: r.which.appID, TokenId: tokenID, AllowLockout: r.allowLockout}
		if r.dryRun {
			return r.rehearse(cmd, g, request)
		}
		return r.token(cmd, g, request)
	}
	return cmd
}

// token revokes one token.
func (r *revocation) token(cmd *cobra.Command, g *globals, request *countersignv1.RevokeTokenRequest) error {
	err := r.sure.ask(cmd, "This revokes token %s of app %s for ever at %s.",
		words.Printable(request.GetTokenId()), words.Printable(request.GetAppId()), g.authority)
	if err != nil {
		return err
	}
	request.RequestId = r.change.requestID()
	return r.change.manage(cmd, g, func(ctx context.Context, authority countersignv1.AuthorityServiceClient,
	) (receipted, error) {
		response, err := authority.RevokeToken(ctx, request)
		if err != nil {
			return nil, r.change.outcome(err)
		}
		return response, g.answer(cmd, response, func(w io.Writer) error {
			return showToken(w, request.GetAppId(), response.GetToken(), response.GetConsistencyToken())
		})
	})
}

// secret revokes a leaked secret in every app.
func (r *revocation) secret(cmd *cobra.Command, g *globals) error {
	leaked, err := readSecret(cmd, r.file)
	if err != nil {
		return err
	}
	if err := r.sure.ask(cmd, "This revokes the secret for ever, in every app that has it, at %s.", g.authority); err != nil {
		return err
	}
	request := &countersignv1.RevokeSecretRequest{
		// Pasted secrets bring spaces and line breaks along.
		Secret:       strings.TrimSpace(leaked.Reveal()),
		AllowLockout: r.allowLockout, RequestId: r.change.requestID(),
	}
	return r.change.manage(cmd, g, func(ctx context.Context, authority countersignv1.AuthorityServiceClient,
	) (receipted, error) {
		response, err := authority.RevokeSecret(ctx, request)
		if err != nil {
			if done := partOf(err); done != nil {
				err := g.answer(cmd, done, func(w io.Writer) error { return showPart(w, cmd.ErrOrStderr(), done) })
				if err != nil {
					return nil, err
				}
			}
			return nil, r.change.outcome(err)
		}
		return response, g.answer(cmd, response, func(w io.Writer) error { return showRevoked(w, response) })
	})
}

// partOf returns the part of a call that was done although the call failed; nil when the error has no such
// detail.
func partOf(err error) *countersignv1.RevokeSecretResponse {
	for _, detail := range status.Convert(err).Details() {
		if done, ok := detail.(*countersignv1.RevokeSecretResponse); ok {
			return done
		}
	}
	return nil
}

func showRevoked(w io.Writer, response *countersignv1.RevokeSecretResponse) error {
	var rows [][]string
	for _, revoked := range response.GetTokens() {
		token := revoked.GetToken()
		rows = append(rows, []string{
			revoked.GetAppId(), token.GetTokenId(), words.Printable(token.GetName()), words.Enum(token.GetState()),
		})
	}
	return show.NewList(w, "APP", "TOKEN", "NAME", "STATE").Page(rows)
}

// showPart shows the tokens that were revoked, and warns about the apps that were not changed.
func showPart(w, warnings io.Writer, done *countersignv1.RevokeSecretResponse) error {
	if len(done.GetTokens()) > 0 {
		if err := showRevoked(w, done); err != nil {
			return err
		}
	}
	for _, failure := range done.GetFailures() {
		fmt.Fprintf(warnings, "Warning: app %s has the secret and was not changed: %s (%s)\n",
			failure.GetAppId(), words.Printable(failure.GetMessage()), failure.GetReason())
	}
	warnOfUnread(warnings, done)
	return nil
}
