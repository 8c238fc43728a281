package cli

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/countersign/internal/show"
	"github.com/countersign/countersign/services/countersign/internal/words"
	"github.com/countersign/countersign/services/internal/cmdline"
	"github.com/countersign/countersign/services/internal/settings"
)

func tokenUpdate(g *globals) *cobra.Command {
	token := &countersignv1.Token{}
	request := &countersignv1.UpdateTokenRequest{Token: token}
	var which whichToken
	var newName string
	var change change
	var sure confirmation
	var scopes words.Scopes
	var expires words.Moment
	state := words.Choice{Of: token.GetState().Descriptor(), Only: []protoreflect.EnumNumber{
		countersignv1.TokenState_TOKEN_STATE_ACTIVE.Number(), countersignv1.TokenState_TOKEN_STATE_DISABLED.Number(),
	}}
	cmd := &cobra.Command{
		Use:   "update --app APP (--token TOKEN | --name NAME)",
		Short: "Change the given fields of a token",
		Long: `Change the given fields of a token.

Without --token, --name says which token to change. Together with --token it is the new name, as
--new-name is.`,
		Example: `  countersign token update --app pezwd5bre2xb --token tok_mq4ys3xkpe5rj2ha --scopes events
  countersign token update --app pezwd5bre2xb --name backend --state disabled`,
	}
	which.add(cmd, appHelp, nameHelp+"; with --token its new name")
	required(cmd, "app")
	flags := cmd.Flags()
	flags.StringVar(&newName, "new-name", "", "new `name`")
	flags.Var(&scopes, "scopes", "new scopes of the token: "+words.ListScopes(words.ProposedScopes()))
	flags.Var(&state, "state", "new state: active or disabled")
	flags.Var(&expires, "expires", "when the token expires: 30d, 12h or a time in RFC 3339")
	noExpiry := flags.Bool("no-expiry", false, "the token never expires")
	flags.StringVar(&token.Note, "note", "", "free `text`; an empty text removes the note")
	settings.MayBeEmpty(flags, "note")
	flags.StringVar(&token.Etag, "etag", "", "change the token only if it still has this `etag`")
	lockoutFlag(cmd, &request.AllowLockout)
	change.flags(cmd)
	sure.flag(cmd)
	cmd.MarkFlagsMutuallyExclusive("expires", "no-expiry")
	cmd.MarkFlagsOneRequired("token", "name")
	cmd.MarkFlagsOneRequired("name", "new-name", "scopes", "state", "expires", "no-expiry", "note")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		request.AppId = which.appID
		if token.Name = newName; which.tokenID != "" && which.name != "" {
			if newName != "" {
				return cmdline.Misuse("--name is the new name when --token is given; leave --new-name out")
			}
			token.Name = which.name
		}
		request.UpdateMask = &fieldmaskpb.FieldMask{}
		if token.GetName() != "" {
			request.UpdateMask.Paths = append(request.UpdateMask.Paths, "name")
		}
		for _, field := range []struct{ flag, path string }{
			{"scopes", "scopes"}, {"state", "state"}, {"expires", "expire_time"}, {"note", "note"},
		} {
			if flags.Changed(field.flag) {
				request.UpdateMask.Paths = append(request.UpdateMask.Paths, field.path)
			}
		}
		if *noExpiry {
			request.UpdateMask.Paths = append(request.UpdateMask.Paths, "expire_time")
		}
		if len(request.UpdateMask.GetPaths()) == 0 {
			return cmdline.Misuse("want a change: --new-name, --scopes, --state, --expires, --no-expiry or --note")
		}
		if token.TokenId, err = which.find(cmd, g); err != nil {
			return err
		}
		token.Scopes, token.State = scopes, countersignv1.TokenState(state.Number)
		token.ExpireTime, request.Ttl = end(&expires)
		if token.GetState() == countersignv1.TokenState_TOKEN_STATE_DISABLED || request.GetAllowLockout() || endsNow(request) {
			err := sure.ask(cmd, "This changes token %s of app %s at %s: %s.",
				words.Printable(token.GetTokenId()), words.Printable(request.GetAppId()), g.authority, lossOf(request))
			if err != nil {
				return err
			}
		}
		request.RequestId = change.requestID()
		return change.manage(cmd, g, func(ctx context.Context, authority countersignv1.AuthorityServiceClient) (receipted, error) {
			response, err := authority.UpdateToken(ctx, request)
			if err != nil {
				return nil, change.outcome(err)
			}
			return response, errors.Join(g.answer(cmd, response, func(w io.Writer) error {
				return showToken(w, request.GetAppId(), response.GetToken(), response.GetConsistencyToken())
			}), notIgnored("--expires", request.GetTtl(), ends(response.GetToken())))
		})
	}
	return cmd
}

// endsNow reports whether an update ends a token at once.
func endsNow(request *countersignv1.UpdateTokenRequest) bool {
	at := request.GetToken().GetExpireTime()
	return at != nil && !at.AsTime().After(time.Now()) || request.GetTtl() != nil && request.GetTtl().AsDuration() == 0
}

// lossOf says what an update takes away.
func lossOf(request *countersignv1.UpdateTokenRequest) string {
	var losses []string
	if request.GetToken().GetState() == countersignv1.TokenState_TOKEN_STATE_DISABLED {
		losses = append(losses, "it is disabled, so enforced scopes reject requests with it")
	}
	if endsNow(request) {
		losses = append(losses, "its secret expires at once")
	}
	if request.GetAllowLockout() {
		losses = append(losses, "an enforced scope may be left without an active token")
	}
	return strings.Join(losses, "; ")
}

// lockoutFlag adds the flag that allows a change to take an enforced scope's last token (B16).
func lockoutFlag(cmd *cobra.Command, allow *bool) {
	cmd.Flags().BoolVar(allow, "allow-lockout", false,
		"go ahead even if an enforced scope is left without an active token, now or when the others expire")
}

// showToken writes a token after a change.
func showToken(w io.Writer, appID string, token *countersignv1.Token, position string) error {
	return show.Details(w, append(show.Token(appID, token, time.Now()),
		show.Row{Name: "Consistency token", Value: position})...)
}
