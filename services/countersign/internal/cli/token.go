package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/countersign/internal/show"
	"github.com/countersign/countersign/services/countersign/internal/words"
)

func tokenCommand(g *globals) *cobra.Command {
	group := &cobra.Command{Use: "token", Short: "Create, list, find, change, rotate, revoke and import tokens"}
	group.AddCommand(tokenCreate(g), tokenList(g), tokenGet(g), tokenFind(g), tokenUpdate(g), tokenRevoke(g), tokenRotate(g),
		tokenImport(g))
	return group
}

func tokenCreate(g *globals) *cobra.Command {
	request := &countersignv1.CreateTokenRequest{}
	var change change
	var scopes words.Scopes
	var expires words.Moment
	var file string
	cmd := &cobra.Command{
		Use:   "create --app APP --name NAME",
		Short: "Create a token and show its secret, this once",
		Example: `  countersign token create --app pezwd5bre2xb --name backend --scopes events,sessions
  countersign token create --app pezwd5bre2xb --name ci --scopes events --expires 30d`,
	}
	flags := cmd.Flags()
	flags.StringVar(&request.AppId, "app", "", "`id` of the app (required)")
	flags.StringVar(&request.Name, "name", "", "`name` of the token, unique in the app (required)")
	flags.Var(&scopes, "scopes", grantHelp)
	flags.Var(&expires, "expires", "when the token expires: 30d, 12h or a time in RFC 3339 (default never)")
	flags.StringVar(&request.Note, "note", "", "free `text`")
	flags.StringVar(&file, "secret-file", "", "write the secret to this new `file` instead of showing it")
	change.flags(cmd)
	required(cmd, "app", "name")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		request.Scopes = scopes
		request.ExpireTime, request.Ttl = end(&expires)
		request.RequestId = change.requestID()
		secrets, err := newSecretFile(file)
		if err != nil {
			return err
		}
		defer secrets.discard()
		return change.manage(cmd, g, func(ctx context.Context, authority countersignv1.AuthorityServiceClient) (receipted, error) {
			response, err := authority.CreateToken(ctx, request)
			if err != nil {
				return nil, change.outcome(err)
			}
			shown := minted{request.GetAppId(), response.GetToken(), &response.Secret, response.GetConsistencyToken()}
			return response, errors.Join(
				shown.show(cmd, g, secrets, response, file),
				notIgnored("--expires", request.GetTtl(), ends(response.GetToken())),
			)
		})
	}
	return cmd
}

func tokenGet(g *globals) *cobra.Command {
	request := &countersignv1.GetTokenRequest{}
	var which whichToken
	cmd := &cobra.Command{
		Use:   "get --app APP (--token TOKEN | --name NAME)",
		Short: "Show a token",
		Example: `  countersign token get --app pezwd5bre2xb --token tok_mq4ys3xkpe5rj2ha
  countersign token get --app pezwd5bre2xb --name backend`,
	}
	which.flags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		request.AppId = which.appID
		if request.TokenId, err = which.find(cmd, g); err != nil {
			return err
		}
		return g.manage(cmd, func(ctx context.Context, authority countersignv1.AuthorityServiceClient) error {
			response, err := authority.GetToken(ctx, request)
			if err != nil {
				return err
			}
			return g.answer(cmd, response, func(w io.Writer) error {
				return show.Details(w, show.Token(request.GetAppId(), response.GetToken(), time.Now())...)
			})
		})
	}
	return cmd
}

// grantHelp is the help text of --scopes for a new token (B04, B05, B14).
var grantHelp = "scopes of the token: " + words.ListScopes(words.ProposedScopes()) +
	"; without the flag every scope, which is allowed while nothing is enforced"

// required marks required flags. Their help texts must say "(required)".
func required(cmd *cobra.Command, names ...string) {
	for _, name := range names {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // the flag does not exist: a mistake in this package
		}
	}
}

// notIgnored returns an error when an older authority, which does not know the duration field, has made a
// change without the requested end.
func notIgnored(flag string, sent *durationpb.Duration, ends bool) error {
	if sent == nil || ends {
		return nil
	}
	return fmt.Errorf("the change is made, but the authority is older than this command and ignored %s: "+
		"the change has no end. Give a time instead of a duration", flag)
}

// ends reports whether a token has an expiry or has expired.
func ends(t *countersignv1.Token) bool {
	return t.GetExpireTime() != nil || t.GetState() == countersignv1.TokenState_TOKEN_STATE_EXPIRED
}

// end returns the value of a flag for an end as the two fields of a request, at most one of which is set.
func end(at *words.Moment) (*timestamppb.Timestamp, *durationpb.Duration) {
	switch {
	case at.After != nil:
		return nil, durationpb.New(*at.After)
	case at.IsZero():
		return nil, nil
	}
	return timestamppb.New(at.Time), nil
}
