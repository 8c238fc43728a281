package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/status"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/countersign/internal/show"
	"github.com/countersign/countersign/services/countersign/internal/words"
)

// errPartial ends a command that could not look everywhere. What is missing has been said.
var errPartial = errors.New("not every app could be looked at, so a token may be missing")

func tokenFind(g *globals) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "find [--secret-file FILE]",
		Short: "Find out whose a secret is, in which state, and when it was last used",
		Long: `Find out whose a secret is: the tokens that have it, in every app and in every state. The command
changes nothing.`,
		Example: `  countersign token find --secret-file found.secret
  countersign token find --secret-file -   (paste the secret, which is not shown, then Enter)`,
	}
	cmd.Flags().StringVar(&file, "secret-file", "-", "`file` with the secret; - is the standard input")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		given, err := readSecret(cmd, file)
		if err != nil {
			return err
		}
		return g.manage(cmd, func(ctx context.Context, authority countersignv1.AuthorityServiceClient) error {
			found, err := findSecret(ctx, authority, given.Reveal())
			if found != nil {
				warnOfUnread(cmd.ErrOrStderr(), found)
			}
			if len(found.GetTokens()) == 0 && err != nil {
				return err
			}
			showErr := g.answer(cmd, found, func(w io.Writer) error {
				return show.NewList(w, show.FoundHeading...).Page(show.FoundRows(found.GetTokens(), time.Now()))
			})
			return errors.Join(showErr, err)
		})
	}
	return cmd
}

// findSecret returns the tokens that have a secret. When the authority could not look everywhere, there is a
// response together with an error.
func findSecret(ctx context.Context, authority countersignv1.AuthorityServiceClient, secret string,
) (*countersignv1.FindTokenResponse, error) {
	// Pasted secrets bring spaces and line breaks along.
	found, err := authority.FindToken(ctx, &countersignv1.FindTokenRequest{Secret: strings.TrimSpace(secret)})
	if err != nil {
		for _, detail := range status.Convert(err).Details() {
			if part, ok := detail.(*countersignv1.FindTokenResponse); ok {
				return part, err
			}
		}
		return nil, err
	}
	if found.GetIncomplete() || len(found.GetUnverifiedAppIds()) > 0 {
		return found, errPartial
	}
	return found, nil
}

// unread is what a search for a secret could not read.
type unread interface {
	GetUnverifiedAppIds() []string
	GetIncomplete() bool
}

// warnOfUnread warns about apps that may have a secret.
func warnOfUnread(w io.Writer, u unread) {
	if unverified := u.GetUnverifiedAppIds(); len(unverified) > 0 {
		fmt.Fprintf(w, "Warning: these apps may have the secret, because their policies could not be verified: %s\n",
			words.Printable(strings.Join(unverified, ", ")))
	}
	if u.GetIncomplete() {
		fmt.Fprintln(w, "Warning: a part of the store could not be read; another app may have the secret.")
	}
}
