package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/countersign/internal/show"
	"github.com/countersign/countersign/services/internal/cmdline"
)

// pageSize is the number of entries in one page: the most that the authority returns.
const pageSize = 1000

func tokenList(g *globals) *cobra.Command {
	request := &countersignv1.ListTokensRequest{PageSize: pageSize}
	cmd := &cobra.Command{
		Use:     "list --app APP",
		Short:   "List an app's tokens, in order of creation",
		Example: "  countersign token list --app pezwd5bre2xb --all",
	}
	cmd.Flags().StringVar(&request.AppId, "app", "", "`id` of the app (required)")
	cmd.Flags().BoolVar(&request.ShowRevoked, "all", false,
		"also show tokens that were revoked or have expired in the last 30 days")
	required(cmd, "app")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return g.manage(cmd, func(ctx context.Context, authority countersignv1.AuthorityServiceClient) error {
			all := &countersignv1.ListTokensResponse{}
			list := show.NewList(cmd.OutOrStdout(), show.TokenHeading...)
			for {
				page, err := authority.ListTokens(ctx, request)
				if err != nil {
					return err
				}
				if g.output == cmdline.JSON {
					all.Tokens = append(all.Tokens, page.GetTokens()...)
				} else if err := list.Page(tokenRows(page.GetTokens())); err != nil {
					return err
				}
				if request.PageToken = page.GetNextPageToken(); request.PageToken == "" {
					break
				}
			}
			if g.output == cmdline.JSON {
				return show.Message(cmd.OutOrStdout(), all)
			}
			return sayEmpty(cmd, list, "The app has no tokens to list.")
		})
	}
	return cmd
}

func tokenRows(tokens []*countersignv1.Token) [][]string {
	now := time.Now()
	rows := make([][]string, len(tokens))
	for i, token := range tokens {
		rows[i] = show.TokenCells(token, now)
	}
	return rows
}

// sayEmpty tells people on the standard error that a list is empty. The standard output stays empty for
// programs.
func sayEmpty(cmd *cobra.Command, list *show.List, text string) error {
	if !list.Empty() {
		return nil
	}
	_, err := fmt.Fprintln(cmd.ErrOrStderr(), text)
	return err
}
