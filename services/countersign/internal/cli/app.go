package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/countersign/internal/show"
	"github.com/countersign/countersign/services/countersign/internal/words"
	"github.com/countersign/countersign/services/internal/cmdline"
)

func appCommand(g *globals) *cobra.Command {
	group := &cobra.Command{Use: "app", Short: "Show and delete apps, see what enforcement would reject, and set it"}
	group.AddCommand(appGet(g), appList(g), appReadiness(g), appEnforce(g), appWatch(g), appDelete(g))
	return group
}

func appGet(g *globals) *cobra.Command {
	request := &countersignv1.GetAppRequest{}
	cmd := &cobra.Command{
		Use:     "get --app APP",
		Short:   "Show an app: its enforced scopes and its number of tokens",
		Example: "  countersign app get --app pezwd5bre2xb",
	}
	cmd.Flags().StringVar(&request.AppId, "app", "", "`id` of the app (required)")
	required(cmd, "app")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return g.manage(cmd, func(ctx context.Context, authority countersignv1.AuthorityServiceClient) error {
			response, err := authority.GetApp(ctx, request)
			if err != nil {
				return err
			}
			return g.answer(cmd, response, func(w io.Writer) error {
				return show.Details(w, show.App(response.GetApp(), time.Now())...)
			})
		})
	}
	return cmd
}

func appList(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List all apps that have tokens or settings",
		Example: "  countersign app list -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			request := &countersignv1.ListAppsRequest{PageSize: pageSize}
			return g.manage(cmd, func(ctx context.Context, authority countersignv1.AuthorityServiceClient) error {
				all := &countersignv1.ListAppsResponse{}
				list := show.NewList(cmd.OutOrStdout(), show.AppHeading...)
				for {
					page, err := authority.ListApps(ctx, request)
					if err != nil {
						return err
					}
					all.Unreachable = page.GetUnreachable()
					if g.output == cmdline.JSON {
						all.Apps = append(all.Apps, page.GetApps()...)
					} else if err := list.Page(appRows(page.GetApps())); err != nil {
						return err
					}
					if request.PageToken = page.GetNextPageToken(); request.PageToken == "" {
						break
					}
				}
				var err error
				switch {
				case g.output == cmdline.JSON:
					err = show.Message(cmd.OutOrStdout(), all)
				case len(all.GetUnreachable()) == 0:
					err = sayEmpty(cmd, list, "There are no apps.")
				}
				if err == nil {
					err = unreachable(all.GetUnreachable())
				}
				return err
			})
		},
	}
}

func appRows(apps []*countersignv1.App) [][]string {
	now := time.Now()
	rows := make([][]string, len(apps))
	for i, app := range apps {
		rows[i] = show.AppCells(app, now)
	}
	return rows
}

func appDelete(g *globals) *cobra.Command {
	request := &countersignv1.DeleteAppRequest{}
	var change change
	var sure confirmation
	cmd := &cobra.Command{
		Use:     "delete --app APP",
		Short:   "Revoke all tokens of an app and remove its settings; fails while anything is enforced",
		Example: "  countersign app delete --app pezwd5bre2xb",
	}
	cmd.Flags().StringVar(&request.AppId, "app", "", "`id` of the app (required)")
	cmd.Flags().StringVar(&request.Etag, "etag", "", "change the app only if it still has this `etag`")
	change.flags(cmd)
	sure.flag(cmd)
	required(cmd, "app")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		err := sure.ask(cmd, "This deletes app %s at %s and revokes its tokens for ever.",
			words.Printable(request.GetAppId()), g.authority)
		if err != nil {
			return err
		}
		request.RequestId = change.requestID()
		return change.manage(cmd, g, func(ctx context.Context, authority countersignv1.AuthorityServiceClient) (receipted, error) {
			response, err := authority.DeleteApp(ctx, request)
			if err != nil {
				return nil, change.outcome(err)
			}
			return response, g.answer(cmd, response, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "App %s is deleted, and its tokens are revoked.\n", request.GetAppId())
				return err
			})
		})
	}
	return cmd
}
