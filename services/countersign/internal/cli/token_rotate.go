package cli

import (
	"context"
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
	var overlap words.Days
	var file string
	cmd := &cobra.Command{
		Use:   "rotate --app APP --token TOKEN",
		Short: "Replace a token by a new one; the old one keeps working for a while",
		Example: `  countersign token rotate --app pezwd5bre2xb --token tok_mq4ys3xkpe5rj2ha
  countersign token rotate --app pezwd5bre2xb --token tok_mq4ys3xkpe5rj2ha --overlap 1d`,
	}
	whichToken(cmd, &request.AppId, &request.TokenId)
	cmd.Flags().Var(&overlap, "overlap", "how long the old token keeps working: 0s to 90d (default 7d)")
	settings.MayBeEmpty(cmd.Flags(), "overlap") // 0 ends the old token at once
	cmd.Flags().StringVar(&file, "secret-file", "", "write the new secret to this new `file` instead of showing it")
	change.flags(cmd)
	sure.flag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkTokenID(request.GetTokenId()); err != nil {
			return err
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
			if err := shown.show(cmd, g, secrets, response, file); err != nil || g.output == cmdline.JSON {
				return response, err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "The old token %s stops working %s.\n",
				response.GetPrevious().GetTokenId(), words.Relative(response.GetPrevious().GetExpireTime(), time.Now()))
			return response, err
		})
	}
	return cmd
}
