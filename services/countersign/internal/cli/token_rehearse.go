package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/countersign/internal/show"
	"github.com/countersign/countersign/services/countersign/internal/words"
)

// rehearse shows what revoking a token would do.
func (r *revocation) rehearse(cmd *cobra.Command, g *globals, request *countersignv1.RevokeTokenRequest) error {
	return g.manage(cmd, func(ctx context.Context, authority countersignv1.AuthorityServiceClient) error {
		// An authority that does not know validate_only would revoke the token. It does not know this call
		// either.
		_, err := authority.GetReadiness(ctx, &countersignv1.GetReadinessRequest{AppId: request.GetAppId()})
		if status.Code(err) == codes.Unimplemented {
			return &adviceError{err, "Nothing was changed: the authority is older than this command, and does not know --dry-run."}
		}
		response, err := rehearseRevoke(ctx, cmd, authority, request)
		if err != nil {
			return err
		}
		fmt.Fprintln(cmd.ErrOrStderr(), "Dry run: nothing was changed. The token would be:")
		return g.answer(cmd, response, func(w io.Writer) error {
			return show.Details(w, show.Token(request.GetAppId(), response.GetToken(), time.Now())...)
		})
	})
}

// rehearseRevoke asks what revoking a token would do, and shows the warnings.
func rehearseRevoke(ctx context.Context, cmd *cobra.Command, authority countersignv1.AuthorityServiceClient,
	request *countersignv1.RevokeTokenRequest,
) (*countersignv1.RevokeTokenResponse, error) {
	request.ValidateOnly = true
	response, err := authority.RevokeToken(ctx, request)
	for _, warning := range response.GetWarnings() {
		fmt.Fprintln(cmd.ErrOrStderr(), "Warning:", words.Printable(warning))
	}
	return response, err
}

// rehearseSecret shows what revoking a secret would do, in every app that has it.
func (r *revocation) rehearseSecret(cmd *cobra.Command, g *globals) error {
	leaked, err := readSecret(cmd, r.file)
	if err != nil {
		return err
	}
	return g.manage(cmd, func(ctx context.Context, authority countersignv1.AuthorityServiceClient) error {
		found, err := findSecret(ctx, authority, leaked.Reveal())
		if found != nil {
			warnOfUnread(cmd.ErrOrStderr(), found)
		}
		if len(found.GetTokens()) == 0 && err != nil {
			return err
		}
		failures := []error{err}
		for _, one := range found.GetTokens() {
			if one.GetToken().GetState() == countersignv1.TokenState_TOKEN_STATE_REVOKED {
				continue
			}
			request := &countersignv1.RevokeTokenRequest{
				AppId: one.GetAppId(), TokenId: one.GetToken().GetTokenId(), AllowLockout: r.allowLockout,
			}
			response, err := rehearseRevoke(ctx, cmd, authority, request)
			if err != nil {
				fmt.Fprintf(cmd.ErrOrStderr(), "Warning: app %s would not be changed: %s\n", one.GetAppId(), explain(err, cmd))
				failures = append(failures, fmt.Errorf("app %s would not be changed", one.GetAppId()))
				continue
			}
			one.Token = response.GetToken()
		}
		fmt.Fprintln(cmd.ErrOrStderr(), "Dry run: nothing was changed. The tokens would be:")
		shown := g.answer(cmd, found, func(w io.Writer) error {
			return show.NewList(w, show.FoundHeading...).Page(show.FoundRows(found.GetTokens(), time.Now()))
		})
		return errors.Join(append(failures, shown)...)
	})
}
