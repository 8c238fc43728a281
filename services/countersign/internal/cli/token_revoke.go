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

func tokenRevoke(g *globals) *cobra.Command {
	var appID, tokenID, file string
	var allowLockout bool
	var change change
	var sure confirmation
	cmd := &cobra.Command{
		Use:   "revoke (--app APP --token TOKEN | --secret-file FILE)",
		Short: "Revoke a token for ever, by its id or by its leaked secret",
		Long: `Revoke a token for ever, by its id or by its leaked secret.

With --secret-file the command revokes the secret in every app that has it, and lists the tokens. If
an app cannot be changed, or would be locked out, the other apps are still changed. The command then
names that app and fails. You can repeat it.`,
		Example: `  countersign token revoke --app pezwd5bre2xb --token tok_mq4ys3xkpe5rj2ha
  countersign token revoke --secret-file -   (paste the secret, which is not shown, then Enter)`,
	}
	flags := cmd.Flags()
	flags.StringVar(&appID, "app", "", "`id` of the app")
	flags.StringVar(&tokenID, "token", "", "`id` of the token")
	flags.StringVar(&file, "secret-file", "", "`file` with the leaked secret; - is the standard input")
	lockoutFlag(cmd, &allowLockout)
	change.flags(cmd)
	sure.flag(cmd)
	cmd.MarkFlagsOneRequired("token", "secret-file")
	cmd.MarkFlagsRequiredTogether("app", "token")
	cmd.MarkFlagsMutuallyExclusive("token", "secret-file")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if file != "" {
			return g.revokeSecret(cmd, file, allowLockout, &change, &sure)
		}
		if err := checkTokenID(tokenID); err != nil {
			return err
		}
		err := sure.ask(cmd, "This revokes token %s of app %s for ever at %s.",
			words.Printable(tokenID), words.Printable(appID), g.authority)
		if err != nil {
			return err
		}
		request := &countersignv1.RevokeTokenRequest{
			AppId: appID, TokenId: tokenID, AllowLockout: allowLockout, RequestId: change.requestID(),
		}
		return change.manage(cmd, g, func(ctx context.Context, authority countersignv1.AuthorityServiceClient) (receipted, error) {
			response, err := authority.RevokeToken(ctx, request)
			if err != nil {
				return nil, change.outcome(err)
			}
			return response, g.answer(cmd, response, func(w io.Writer) error {
				return showToken(w, appID, response.GetToken(), response.GetConsistencyToken())
			})
		})
	}
	return cmd
}

func (g *globals) revokeSecret(cmd *cobra.Command, file string, allowLockout bool,
	change *change, sure *confirmation,
) error {
	leaked, err := readSecret(cmd, file)
	if err != nil {
		return err
	}
	if err := sure.ask(cmd, "This revokes the secret for ever, in every app that has it, at %s.", g.authority); err != nil {
		return err
	}
	request := &countersignv1.RevokeSecretRequest{
		// Pasted secrets bring spaces and line breaks along.
		Secret:       strings.TrimSpace(leaked.Reveal()),
		AllowLockout: allowLockout, RequestId: change.requestID(),
	}
	return change.manage(cmd, g, func(ctx context.Context, authority countersignv1.AuthorityServiceClient) (receipted, error) {
		response, err := authority.RevokeSecret(ctx, request)
		if err != nil {
			if done := partOf(err); done != nil {
				err := g.answer(cmd, done, func(w io.Writer) error { return showPart(w, cmd.ErrOrStderr(), done) })
				if err != nil {
					return nil, err
				}
			}
			return nil, change.outcome(err)
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
	if unverified := done.GetUnverifiedAppIds(); len(unverified) > 0 {
		fmt.Fprintf(warnings, "Warning: these apps may have the secret, because their policies could not be verified: %s\n",
			strings.Join(unverified, ", "))
	}
	if done.GetIncomplete() {
		fmt.Fprintln(warnings, "Warning: a part of the store could not be read; another app may have the secret.")
	}
	return nil
}
