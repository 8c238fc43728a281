package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/countersign/internal/show"
	"github.com/countersign/countersign/services/countersign/internal/words"
	"github.com/countersign/countersign/services/internal/cmdline"
)

// readinessFlags are the flags of a readiness report.
type readinessFlags struct {
	appID  string
	window words.Days
	ratio  float64
	watch  bool
}

func appReadiness(g *globals) *cobra.Command {
	f := &readinessFlags{}
	cmd := &cobra.Command{
		Use:   "readiness [--app APP]",
		Short: "Show what enforcement would reject, and what to do before it is switched on",
		Long: `Show what enforcement would reject: the requests by reason and by token, which tokens were used, and
the blockers, which say what to do before enforcement is switched on. Without --app it is a summary
of all apps, worst first.

The numbers come from all validators and are about 10 s old. A window begins at a full hour; one of
more than 48h begins at midnight UTC.`,
		Example: `  countersign app readiness --app pezwd5bre2xb
  countersign app readiness --app pezwd5bre2xb --window 7d --watch
  countersign app readiness -o json`,
	}
	flags := cmd.Flags()
	flags.StringVar(&f.appID, "app", "", "`id` of the app (default all apps)")
	flags.Var(&f.window, "window", "how far back the report looks, at most 35d (default 24h)")
	flags.Float64Var(&f.ratio, "max-rejected-ratio", 0,
		"share of requests without a known token, 0 to 1, above which they are a blocker (default 0.01)")
	flags.BoolVar(&f.watch, "watch", false, "show the report again every 2s, until Ctrl-C")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkRatio(cmd, f.ratio); err != nil {
			return err
		}
		if f.appID == "" && flags.Changed("max-rejected-ratio") {
			return cmdline.Misuse("--max-rejected-ratio goes with --app only")
		}
		return g.manage(cmd, func(ctx context.Context, authority countersignv1.AuthorityServiceClient) error {
			report := func(w io.Writer) error { return f.all(ctx, cmd, g, authority, w) }
			if f.appID != "" {
				report = func(w io.Writer) error { return f.one(ctx, cmd, g, authority, w) }
			}
			if f.watch {
				return watched(ctx, cmd, report)
			}
			return report(cmd.OutOrStdout())
		})
	}
	return cmd
}

// checkRatio checks the flag --max-rejected-ratio.
func checkRatio(cmd *cobra.Command, ratio float64) error {
	if cmd.Flags().Changed("max-rejected-ratio") && !(ratio >= 0 && ratio <= 1) { // rejects NaN too
		return cmdline.Misuse("--max-rejected-ratio: want a number from 0 to 1")
	}
	return nil
}

// span returns the value of --window; nil when it was not given.
func (f *readinessFlags) span() *durationpb.Duration {
	if f.window == 0 {
		return nil
	}
	return durationpb.New(time.Duration(f.window))
}

// one writes the report on one app.
func (f *readinessFlags) one(ctx context.Context, cmd *cobra.Command, g *globals,
	authority countersignv1.AuthorityServiceClient, w io.Writer,
) error {
	request := &countersignv1.GetReadinessRequest{AppId: f.appID, Window: f.span()}
	if cmd.Flags().Changed("max-rejected-ratio") {
		request.MaxRejectedRatio = &f.ratio
	}
	response, err := authority.GetReadiness(ctx, request)
	if err != nil {
		return err
	}
	if g.output == cmdline.JSON {
		return show.Message(w, response)
	}
	return show.Readiness(w, response.GetReadiness(), styleOf(cmd.OutOrStdout()), time.Now(), false)
}

// all writes the summary of all apps.
func (f *readinessFlags) all(ctx context.Context, cmd *cobra.Command, g *globals,
	authority countersignv1.AuthorityServiceClient, w io.Writer,
) error {
	request := &countersignv1.ListReadinessRequest{PageSize: pageSize, Window: f.span()}
	all := &countersignv1.ListReadinessResponse{}
	list := show.NewList(w, show.ReadinessHeading...)
	for {
		page, err := authority.ListReadiness(ctx, request)
		if err != nil {
			return err
		}
		all.Unreachable = page.GetUnreachable()
		if g.output == cmdline.JSON {
			all.Apps = append(all.Apps, page.GetApps()...)
		} else {
			var rows [][]string
			for _, app := range page.GetApps() {
				rows = append(rows, show.ReadinessCells(app))
			}
			if err := list.Page(rows); err != nil {
				return err
			}
		}
		if request.PageToken = page.GetNextPageToken(); request.PageToken == "" {
			break
		}
	}
	var err error
	if g.output == cmdline.JSON {
		err = show.Message(w, all)
	} else if len(all.GetUnreachable()) == 0 {
		err = sayEmpty(cmd, list, "There are no apps.")
	}
	return errors.Join(err, unreachable(all.GetUnreachable()))
}

// unreachable returns an error that names the partitions that a list lacks; nil when it lacks none.
func unreachable(partitions []string) error {
	if len(partitions) == 0 {
		return nil
	}
	return fmt.Errorf("the list is not complete: the authority could not load the apps of %s "+
		"('countersign store verify' says why)", strings.Join(partitions, ", "))
}
