package importer

import (
	"context"
	"slices"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/countersign/internal/importfile"
)

// app imports the rows of one app. An error stops the whole import.
func (r *run) app(ctx context.Context, rows []importfile.Row) error {
	before, err := r.list(ctx, rows[0].AppID)
	if err != nil {
		return r.whole(rows, err)
	}
	if r.options.DryRun {
		return r.whole(rows, r.rehearse(ctx, before, rows))
	}
	last := ""
	defer func() {
		if last != "" {
			r.count(func(result *Result) {
				result.Apps++
				result.ConsistencyTokens = append(result.ConsistencyTokens, last)
			})
		}
	}()
	// The authority names one bad row of a call. So a call with bad rows is repeated without them, and
	// smaller for a while: many bad rows then cost many small calls, and not many large ones.
	for size := maxBatch; len(rows) > 0 && ctx.Err() == nil; {
		batch := rows[:min(size, len(rows))]
		response, err := r.send(ctx, batch)
		if err == nil {
			if r.imported(before, batch, response) {
				last = response.GetConsistencyToken()
			}
			rows, size = rows[len(batch):], min(2*size, maxBatch)
			continue
		}
		index, refusal := refusedRow(err, batch)
		switch {
		case index < 0 && full(err) && len(batch) > 1:
			// A part of the batch may still fit.
		case index < 0 && full(err) && r.options.Resume:
			r.refuse(batch, refusal.Field, refusal.Reason) // a later row may be there already
			rows = rows[1:]
		case index < 0:
			return r.whole(rows, err)
		case r.options.Resume && secretTaken(err):
			r.count(func(result *Result) { result.There++ })
			rows = slices.Delete(rows, index, index+1)
		default:
			r.refuse(batch[index:index+1], refusal.Field, refusal.Reason)
			rows = slices.Delete(rows, index, index+1)
		}
		size = max(1, len(batch)/2)
	}
	return nil
}

// whole deals with an error that is not about a single row. It refuses all the rows when the error is about
// their app, and otherwise returns it.
func (r *run) whole(rows []importfile.Row, err error) error {
	if err == nil || !aboutApp(err) {
		return err
	}
	_, refusal := refusedRow(err, nil)
	r.refuse(rows, refusal.Field, refusal.Reason)
	return nil
}

// imported counts the rows of a batch that the authority has taken. A response to a repeated request has
// tokens that the app had before: an earlier run of the same import has made the same call. It returns
// whether the app got new tokens.
func (r *run) imported(before *tokens, batch []importfile.Row, response *countersignv1.ImportTokensResponse) bool {
	var again []importfile.Row
	for i, token := range response.GetTokens() {
		if before.ids[token.GetTokenId()] && i < len(batch) {
			again = append(again, batch[i])
		}
	}
	fresh := len(batch) - len(again)
	r.count(func(result *Result) {
		result.Imported += fresh
		if d := response.GetDurability(); d != nil && (result.Durability == nil ||
			d.GetAcknowledged() < result.Durability.GetAcknowledged()) {
			result.Durability = d
		}
		if r.options.Resume {
			result.There += len(again)
		}
	})
	if !r.options.Resume && len(again) > 0 {
		r.refuse(again, "secret", "this file was imported before, and the app has this token")
	}
	return fresh > 0
}

// tokens are the tokens that an app has before the import.
type tokens struct {
	appID string
	// ids has the ids of all listed tokens.
	ids map[string]bool
	// names has the names that a new token must not have.
	names map[string]bool
	// live is the number of ACTIVE and DISABLED tokens.
	live int
}

// list reads the tokens of an app.
func (r *run) list(ctx context.Context, appID string) (*tokens, error) {
	found := &tokens{appID: appID, ids: map[string]bool{}, names: map[string]bool{}}
	request := &countersignv1.ListTokensRequest{AppId: appID, PageSize: maxBatch, ShowRevoked: true}
	for {
		page, err := retried(ctx, func(ctx context.Context) (*countersignv1.ListTokensResponse, error) {
			return r.authority.ListTokens(ctx, request)
		})
		if err != nil {
			return nil, err
		}
		for _, token := range page.GetTokens() {
			found.add(token)
		}
		if request.PageToken = page.GetNextPageToken(); request.PageToken == "" {
			return found, nil
		}
	}
}

func (t *tokens) add(token *countersignv1.Token) {
	t.ids[token.GetTokenId()] = true
	switch token.GetState() {
	case countersignv1.TokenState_TOKEN_STATE_ACTIVE, countersignv1.TokenState_TOKEN_STATE_DISABLED:
		t.live++
		if token.GetSuccessorId() == "" {
			t.names[token.GetName()] = true
		}
	}
}
