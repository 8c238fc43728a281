package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/countersign/internal/words"
	"github.com/countersign/countersign/services/internal/cmdline"
	"github.com/countersign/countersign/services/internal/settings"
)

func tokenRotate(g *globals) *cobra.Command {
	request := &countersignv1.RotateTokenRequest{}
	var change change
	var sure confirmation
	var which whichToken
	var overlap, unused words.Days
	var file string
	cmd := &cobra.Command{
		Use:   "rotate --app APP (--token TOKEN | --name NAME)",
		Short: "Replace a token by a new one; the old one keeps working for a while",
		Example: `  countersign token rotate --app pezwd5bre2xb --token tok_mq4ys3xkpe5rj2ha
  countersign token rotate --app pezwd5bre2xb --token tok_mq4ys3xkpe5rj2ha --overlap 1d
  countersign token rotate --app pezwd5bre2xb --name backend --until-unused 24h`,
	}
	which.flags(cmd)
	cmd.Flags().Var(&overlap, "overlap",
		"how long the old token keeps working at most: 0s to 90d (default 7d, with --until-unused 90d)")
	settings.MayBeEmpty(cmd.Flags(), "overlap") // 0 ends the old token at once
	cmd.Flags().Var(&unused, "until-unused",
		"end the old token earlier, once no request has carried it for so long: 1h to 35d")
	cmd.Flags().StringVar(&file, "secret-file", "", "write the new secret to this new `file` instead of showing it")
	change.flags(cmd)
	sure.flag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		request.AppId = which.appID
		if request.TokenId, err = which.find(cmd, g); err != nil {
			return err
		}
		if cmd.Flags().Changed("until-unused") {
			request.UntilUnused = durationpb.New(time.Duration(unused))
		}
		if cmd.Flags().Changed("overlap") {
			request.Overlap = durationpb.New(time.Duration(overlap))
			if overlap == 0 {
				err := sure.ask(cmd, "This ends token %s of app %s at once at %s: "+
					"its secret stops working before the new one can be in use.",
					words.Printable(request.GetTokenId()), words.Printable(request.GetAppId()), g.authority)
				if err != nil {
					return err
				}
			}
		}
		request.RequestId = change.requestID()
		secrets, err := newSecretFile(file)
		if err != nil {
			return err
		}
		defer secrets.discard()
		return change.manage(cmd, g, func(ctx context.Context, authority countersignv1.AuthorityServiceClient) (receipted, error) {
			response, err := authority.RotateToken(ctx, request)
			if err != nil {
				return nil, change.outcome(err)
			}
			shown := minted{request.GetAppId(), response.GetToken(), &response.Secret, response.GetConsistencyToken()}
			previous := response.GetPrevious()
			if err := shown.show(cmd, g, secrets, response, file); err != nil {
				return response, err
			}
			sooner := ""
			switch unused := previous.GetUntilUnused(); {
			case unused != nil:
				sooner = ", or earlier, once it has not been used for " + words.Span(unused.AsDuration())
			case request.GetUntilUnused() != nil:
				return response, errors.New("the token is rotated, but the authority is older than this command and ignored " +
					"--until-unused")
			}
			if g.output == cmdline.JSON {
				return response, nil
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "The old token %s stops working %s%s.\n",
				previous.GetTokenId(), words.Relative(previous.GetExpireTime(), time.Now()), sooner)
			return response, err
		})
	}
	return cmd
}
