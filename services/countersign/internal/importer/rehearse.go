package importer

import (
	"context"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/countersign/internal/importfile"
)

// rehearse counts what would happen to the rows of one app, as far as its list of tokens shows it.
func (r *run) rehearse(ctx context.Context, before *tokens, rows []importfile.Row) error {
	enforced, err := r.enforced(ctx, rows)
	if err != nil {
		return err
	}
	room := maxTokens - before.live
	for i := range rows {
		one := rows[i : i+1]
		switch {
		case before.names[rows[i].Import.GetName()] && r.options.Resume:
			r.count(func(result *Result) { result.There++ })
		case before.names[rows[i].Import.GetName()]:
			r.refuse(one, "name", "an active or disabled token of the app has this name")
		case enforced && len(rows[i].Import.GetScopes()) == 0:
			r.refuse(one, "scopes", "want at least one scope, since the app has enforcement")
		case room <= 0:
			r.refuse(one, "app_id", fmt.Sprintf("the app would have more than %d active or disabled tokens", maxTokens))
		default:
			room--
			r.count(func(result *Result) { result.Imported++ })
		}
	}
	return nil
}

// enforced reports whether the app has enforcement. It asks only when a row has no scopes, which is the only
// case in which it matters (B04).
func (r *run) enforced(ctx context.Context, rows []importfile.Row) (bool, error) {
	for _, row := range rows {
		if len(row.Import.GetScopes()) > 0 {
			continue
		}
		response, err := retried(ctx, func(ctx context.Context) (*countersignv1.GetAppResponse, error) {
			return r.authority.GetApp(ctx, &countersignv1.GetAppRequest{AppId: row.AppID})
		})
		if status.Code(err) == codes.NotFound {
			return false, nil
		}
		app := response.GetApp()
		return len(app.GetEnforcedScopes())+len(app.GetScopesAfterTrial()) > 0, err
	}
	return false, nil
}
