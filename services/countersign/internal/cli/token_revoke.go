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
		Short: "Revoke a token for ever, by its id or by a secret that leaked",
		Long: `Revoke a token for ever, by its id or by a secret that leaked.

With --secret-file it is revoked in every app that has it, and the tokens are named. An app that cannot be changed, or would
be locked out, keeps no other one from it: the command names it and fails, and can be given again.`,
		Example: `  countersign token revoke --app pezwd5bre2xb --token tok_mq4ys3xkpe5rj2ha
  countersign token revoke --secret-file -   (paste the secret, which is not shown, then Enter)`,
	}
	flags := cmd.Flags()
	flags.StringVar(&appID, "app", "", "`id` of the app")
	flags.StringVar(&tokenID, "token", "", "`id` of the token")
	flags.StringVar(&file, "secret-file", "", "`file` that holds the leaked secret; - is the standard input")
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
		if err := sure.ask(cmd, "Token %s of app %s is to be revoked for ever at %s.", words.Printable(tokenID), words.Printable(appID), g.authority); err != nil {
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

func (g *globals) revokeSecret(cmd *cobra.Command, file string, allowLockout bool, change *change, sure *confirmation) error {
	leaked, err := readSecret(cmd, file)
	if err != nil {
		return err
	}
	if err := sure.ask(cmd, "This secret is to be revoked for ever, in every app that has it, at %s.", g.authority); err != nil {
		return err
	}
	request := &countersignv1.RevokeSecretRequest{
		// Pasted secrets bring blanks along, and line breaks of the page they stood on.
		Secret:       strings.TrimSpace(leaked.Reveal()),
		AllowLockout: allowLockout, RequestId: change.requestID(),
	}
	return change.manage(cmd, g, func(ctx context.Context, authority countersignv1.AuthorityServiceClient) (receipted, error) {
		response, err := authority.RevokeSecret(ctx, request)
		if err != nil {
			if done := partOf(err); done != nil {
				if err := g.answer(cmd, done, func(w io.Writer) error { return showPart(w, cmd.ErrOrStderr(), done) }); err != nil {
					return nil, err
				}
			}
			return nil, change.outcome(err)
		}
		return response, g.answer(cmd, response, func(w io.Writer) error { return showRevoked(w, response) })
	})
}

// partOf returns what a call that failed for some apps has done for the others; nil when the error does not
// tell.
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

// showPart shows what was done, and warns of what was not.
func showPart(w, warnings io.Writer, done *countersignv1.RevokeSecretResponse) error {
	if len(done.GetTokens()) > 0 {
		if err := showRevoked(w, done); err != nil {
			return err
		}
	}
	for _, failure := range done.GetFailures() {
		fmt.Fprintf(warnings, "Warning: app %s has the secret and was not changed: %s (%s)\n", failure.GetAppId(), words.Printable(failure.GetMessage()), failure.GetReason())
	}
	if unverified := done.GetUnverifiedAppIds(); len(unverified) > 0 {
		fmt.Fprintf(warnings, "Warning: nobody can tell whether these apps have the secret, since their policies could not be verified: %s\n",
			strings.Join(unverified, ", "))
	}
	if done.GetIncomplete() {
		fmt.Fprintln(warnings, "Warning: a part of the store could not be read; another app may have the secret.")
	}
	return nil
}
