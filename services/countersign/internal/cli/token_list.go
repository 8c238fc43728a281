package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/countersign/internal/show"
	"github.com/countersign/countersign/services/countersign/internal/words"
	"github.com/countersign/countersign/services/internal/cmdline"
)

// pageSize is the number of entries in one page: the most that the authority returns.
const pageSize = 1000

func tokenList(g *globals) *cobra.Command {
	request := &countersignv1.ListTokensRequest{PageSize: pageSize}
	filter := newTokenFilter()
	cmd := &cobra.Command{
		Use:   "list --app APP",
		Short: "List an app's tokens, in order of creation, with their last uses",
		Long: `List an app's tokens, in order of creation, with their last uses. The successor of a rotated token
follows it, with an arrow. A token is listed when all the given conditions hold.`,
		Example: `  countersign token list --app pezwd5bre2xb --all
  countersign token list --app pezwd5bre2xb --unused-for 30d --sort last-use`,
	}
	cmd.Flags().StringVar(&request.AppId, "app", "", "`id` of the app (required)")
	cmd.Flags().BoolVar(&request.ShowRevoked, "all", false,
		"also show tokens that were revoked or have expired in the last 30 days")
	filter.flags(cmd)
	required(cmd, "app")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if filter.ended() {
			request.ShowRevoked = true
		}
		return g.manage(cmd, func(ctx context.Context, authority countersignv1.AuthorityServiceClient) error {
			tokens, err := allTokens(ctx, authority, request)
			if err != nil {
				return err
			}
			var unknown error
			if filter.unusedFor == 0 {
				unknown = lastUsesUnknown(ctx, authority, request.GetAppId(), tokens)
			} else if err := warnOfMissing(ctx, cmd, authority, request.GetAppId(), time.Duration(filter.unusedFor)); err != nil {
				return &adviceError{err, "--unused-for needs the usage counts: without them every token looks unused."}
			}
			tokens = filter.apply(tokens, time.Now())
			if g.output == cmdline.JSON {
				return show.Message(cmd.OutOrStdout(), &countersignv1.ListTokensResponse{Tokens: tokens})
			}
			if unknown != nil && len(tokens) > 0 {
				fmt.Fprintln(cmd.ErrOrStderr(), "Warning: the last uses are unknown:", explain(unknown, cmd))
			}
			list := show.NewList(cmd.OutOrStdout(), show.TokenHeading...)
			if err := list.Page(tokenTable(tokens, unknown != nil, styleOf(cmd.OutOrStdout()))); err != nil {
				return err
			}
			return sayEmpty(cmd, list, "The app has no tokens to list.")
		})
	}
	return cmd
}

// allTokens returns the tokens of all pages.
func allTokens(ctx context.Context, authority countersignv1.AuthorityServiceClient, request *countersignv1.ListTokensRequest,
) (tokens []*countersignv1.Token, err error) {
	for {
		page, err := authority.ListTokens(ctx, request)
		if err != nil {
			return nil, err
		}
		tokens = append(tokens, page.GetTokens()...)
		if request.PageToken = page.GetNextPageToken(); request.PageToken == "" {
			return tokens, nil
		}
	}
}

// lastUsesUnknown returns an error when the authority cannot read the usage counts. Its list of tokens then
// looks as if no token had ever been used, so it asks for a report, which must not hide that.
func lastUsesUnknown(ctx context.Context, authority countersignv1.AuthorityServiceClient, appID string,
	tokens []*countersignv1.Token,
) error {
	if len(tokens) == 0 || slices.ContainsFunc(tokens, func(t *countersignv1.Token) bool { return len(t.GetLastUses()) > 0 }) {
		return nil
	}
	_, err := authority.GetReadiness(ctx, &countersignv1.GetReadinessRequest{AppId: appID})
	if status.Code(err) == codes.NotFound {
		return nil // the app was deleted meanwhile
	}
	return err
}

// minWindow and maxWindow bound the window of a readiness report.
const minWindow, maxWindow = time.Minute, 35 * 24 * time.Hour

// warnOfMissing says on the standard error which requests of a time span are not in the usage counts: a token
// may look unused because of them.
func warnOfMissing(ctx context.Context, cmd *cobra.Command, authority countersignv1.AuthorityServiceClient, appID string,
	span time.Duration,
) error {
	response, err := authority.GetReadiness(ctx, &countersignv1.GetReadinessRequest{
		AppId: appID, Window: durationpb.New(min(max(span, minWindow), maxWindow)),
	})
	switch {
	case status.Code(err) == codes.NotFound:
		return nil // the app has no policy, or was deleted meanwhile
	case err != nil:
		return err
	}
	if span > maxWindow {
		fmt.Fprintln(cmd.ErrOrStderr(), "Warning: uses are counted for 35 days; a token may have been used before that.")
	}
	for _, sentence := range response.GetReadiness().GetMissing() {
		fmt.Fprintf(cmd.ErrOrStderr(), "Warning: a token may look unused and be in use: %s.\n", sentence)
	}
	return nil
}

// tokenTable returns the rows of tokens, each successor after its predecessor.
func tokenTable(tokens []*countersignv1.Token, unknown bool, style show.Style) [][]string {
	ordered, follows := show.Rotations(tokens)
	rows := tokenRows(ordered)
	for i, token := range ordered {
		if follows[token.GetTokenId()] {
			rows[i][1] = style.Arrow() + rows[i][1]
		}
		if unknown {
			rows[i][slices.Index(show.TokenHeading, "LAST USE")] = "?"
		}
	}
	return rows
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

// tokenFilter says which tokens are listed, and in which order.
type tokenFilter struct {
	unusedFor, expiring words.Days
	states              words.Choices
	unscoped            bool
	sort                tokenOrder
}

func newTokenFilter() *tokenFilter {
	return &tokenFilter{states: words.Choices{Of: countersignv1.TokenState(0).Descriptor()}, sort: "created"}
}

func (f *tokenFilter) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.Var(&f.unusedFor, "unused-for", "only tokens that exist for so long and were not used in this time, such as 30d")
	flags.Var(&f.expiring, "expiring-within", "only tokens that expire within this time, such as 7d")
	flags.Var(&f.states, "state", "only tokens in these states: "+strings.Join(words.EnumNames(f.states.Of), ", "))
	flags.BoolVar(&f.unscoped, "unscoped", false, "only tokens that authenticate every scope")
	flags.Var(&f.sort, "sort",
		"order: created, name, last-use (the longest unused first), or expires (the first to expire first)")
}

// ended reports whether the filter asks for tokens that are listed on request only.
func (f *tokenFilter) ended() bool {
	return len(f.states.Numbers) > 0 && (f.states.Has(countersignv1.TokenState_TOKEN_STATE_REVOKED) ||
		f.states.Has(countersignv1.TokenState_TOKEN_STATE_EXPIRED))
}

// apply returns the tokens that meet all conditions, in the chosen order.
func (f *tokenFilter) apply(tokens []*countersignv1.Token, now time.Time) []*countersignv1.Token {
	tokens = slices.DeleteFunc(tokens, func(t *countersignv1.Token) bool { return !f.keeps(t, now) })
	slices.SortStableFunc(tokens, f.sort.compare)
	return tokens
}

func (f *tokenFilter) keeps(t *countersignv1.Token, now time.Time) bool {
	before := now.Add(-time.Duration(f.unusedFor))
	last := show.LastUse(t.GetLastUses())
	until := now.Add(time.Duration(f.expiring))
	switch {
	case !f.states.Has(t.GetState()), f.unscoped && len(t.GetScopes()) > 0:
		return false
	case f.unusedFor != 0 && (t.GetCreateTime().AsTime().After(before) || last != nil && last.AsTime().After(before)):
		return false
	case f.expiring != 0:
		live := t.GetState() == countersignv1.TokenState_TOKEN_STATE_ACTIVE ||
			t.GetState() == countersignv1.TokenState_TOKEN_STATE_DISABLED
		return live && t.GetExpireTime() != nil && !t.GetExpireTime().AsTime().After(until)
	}
	return true
}
