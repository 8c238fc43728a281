package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/countersign/internal/tally"
	"github.com/countersign/countersign/services/countersign/internal/words"
	"github.com/countersign/countersign/services/internal/cmdline"
)

func appWatch(g *globals) *cobra.Command {
	var appID string
	cmd := &cobra.Command{
		Use:   "watch --app APP",
		Short: "Show decisions about an app as they come, until Ctrl-C",
		Long: `Show decisions about an app as they come, until Ctrl-C: a line for each reason, with the number of
decisions since the last line, and how many of them were rejections. Use it right after enforcement
was switched on, to see what is turned away.

The command asks the authority every second. Validators report their counts every few seconds, so a
decision is shown up to 10 s after it was made. With -o json each line is a JSON object.`,
		Example: "  countersign app watch --app pezwd5bre2xb",
	}
	cmd.Flags().StringVar(&appID, "app", "", "`id` of the app (required)")
	required(cmd, "app")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return g.manage(cmd, func(ctx context.Context, authority countersignv1.AuthorityServiceClient) error {
			return watchDecisions(ctx, cmd, g, authority, appID)
		})
	}
	return cmd
}

// watchDecisions shows the differences between one report and the next, until the context ends.
func watchDecisions(ctx context.Context, cmd *cobra.Command, g *globals, authority countersignv1.AuthorityServiceClient,
	appID string,
) error {
	var tallies tally.Tally
	lines := &decisionLines{w: cmd.OutOrStdout(), json: g.output == cmdline.JSON}
	for first := true; ; first = false {
		now := time.Now()
		response, err := authority.GetReadiness(ctx, &countersignv1.GetReadinessRequest{
			AppId: appID, Window: durationpb.New(tallies.Window(now)),
		})
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // Ctrl-C ends it
		case err != nil && (first || !away(err)):
			return err
		case err != nil:
			fmt.Fprintf(cmd.ErrOrStderr(), "Warning: no counts at %s: %s\n", now.UTC().Format("15:04:05Z"), explain(err, cmd))
		default:
			news := tallies.Next(response.GetReadiness())
			if first {
				err = lines.begin(now, tallies.Total())
			} else {
				err = lines.write(now, news)
			}
			if err != nil {
				return err
			}
		}
		if !pause(ctx, time.Second) {
			return nil
		}
	}
}

// decisionLines writes the output of app watch.
type decisionLines struct {
	w    io.Writer
	json bool
	// quiet is when something was last written.
	quiet time.Time
}

// stillWatching is how long nothing happens before a line says so.
const stillWatching = 10 * time.Second

// begin writes the first line, at once.
func (l *decisionLines) begin(now time.Time, total uint64) error {
	l.quiet = now
	if l.json {
		return nil
	}
	_, err := fmt.Fprintf(l.w, "%-9s  %-24s  %10s  %10s  %s\n%s  %s decisions in the last 1 to 2 hours; new ones follow.\n",
		"TIME", "REASON", "DECISIONS", "REJECTED", "TOKEN", clockOf(now), words.Count(total))
	return err
}

// write writes a line for each reason.
func (l *decisionLines) write(now time.Time, news []tally.News) error {
	if len(news) == 0 {
		if l.json || now.Sub(l.quiet) < stillWatching {
			return nil
		}
		l.quiet = now
		_, err := fmt.Fprintf(l.w, "%s  no new decisions\n", clockOf(now))
		return err
	}
	l.quiet = now
	for _, n := range news {
		var err error
		if l.json {
			err = json.NewEncoder(l.w).Encode(map[string]any{
				"time": now.UTC().Format(time.RFC3339), "reason": n.Reason, "tokenId": n.Token,
				"decisions": n.Decisions, "rejected": n.Rejected,
			})
		} else {
			_, err = fmt.Fprintf(l.w, "%s  %-24s  %10s  %10s  %s\n", clockOf(now), n.Reason, words.Count(n.Decisions),
				words.Count(n.Rejected), words.Printable(n.Name))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func clockOf(now time.Time) string { return now.UTC().Format("15:04:05Z") }
