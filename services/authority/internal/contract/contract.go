// Package contract writes an app's document and its tokens as messages of the contract. The management
// service answers with these messages, and the audit trail keeps them. This package is not part of the public
// API and may change in any release.
package contract

import (
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// Token returns a token as the contract shows it at a time.
func Token(t *record.Token, now time.Time) *countersignv1.Token {
	token := &countersignv1.Token{
		TokenId: t.ID, Name: t.Name, Scopes: scopesToProto(t.Scopes),
		State:      countersignv1.TokenState(t.StateAt(now.UnixMilli())),
		ExpireTime: timeToProto(t.EndMillis()), OverlapEndTime: timeToProto(t.OverlapEndMillis),
		Note: t.Note, Etag: Etag(t.TouchedRevision), Hint: t.Hint, CreatedBy: t.CreatedBy,
		CreateTime: timeToProto(t.CreateMillis), UpdateTime: timeToProto(t.UpdateMillis), RevokeTime: timeToProto(t.RevokeMillis),
		PredecessorId: t.PredecessorID, SuccessorId: t.SuccessorID, Imported: t.Imported,
	}
	if t.UntilUnusedMillis != 0 {
		token.UntilUnused = durationpb.New(time.Duration(t.UntilUnusedMillis) * time.Millisecond)
	}
	return token
}

// TokenOf returns a token of a document, nil when the document has no token with the id.
func TokenOf(d *record.Document, id string, now time.Time) *countersignv1.Token {
	for i := range d.Tokens {
		if d.Tokens[i].ID == id {
			return Token(&d.Tokens[i], now)
		}
	}
	return nil
}

// App returns the app of a document. A nil document stands for an app without settings.
func App(appID string, d *record.Document, now time.Time) *countersignv1.App {
	if d == nil {
		return &countersignv1.App{AppId: appID}
	}
	tokens := make([]policy.Token, len(d.Tokens))
	for i := range d.Tokens {
		tokens[i] = d.Tokens[i].Token
	}
	return AppOf(appID, d.Revision, d.Enforcement, tokens, d.Memory, now)
}

// AppOf returns an app whose document is not at hand, from the parts of its policy.
func AppOf(appID string, revision uint64, e policy.Enforcement, tokens []policy.Token, memory policy.Memory,
	now time.Time,
) *countersignv1.App {
	app := &countersignv1.App{
		AppId: appID, EnforcedScopes: scopesToProto(e.At(now.UnixMilli())), Etag: Etag(revision),
		RememberedDigestCount: int32(memory.Len()),
	}
	if e.TrialEndMillis > now.UnixMilli() {
		app.TrialEndTime = timeToProto(e.TrialEndMillis)
		app.ScopesAfterTrial = scopesToProto(e.After)
	}
	for i := range tokens {
		switch tokens[i].StateAt(now.UnixMilli()) {
		case policy.Active:
			app.ActiveTokenCount++
		case policy.Disabled:
			app.DisabledTokenCount++
		case policy.Revoked:
			app.RevokedTokenCount++
		case policy.Expired:
			app.ExpiredTokenCount++
		}
	}
	return app
}

func scopesToProto(set policy.ScopeSet) []countersignv1.Scope {
	var scopes []countersignv1.Scope
	for s := range set.All() {
		scopes = append(scopes, countersignv1.Scope(s))
	}
	return scopes
}

// ScopeNames writes a set of scopes for people: EVENTS, SESSIONS.
func ScopeNames(set policy.ScopeSet) string {
	var names []string
	for s := range set.All() {
		names = append(names, strings.TrimPrefix(countersignv1.Scope(s).String(), "SCOPE_"))
	}
	return strings.Join(names, ", ")
}

func timeToProto(millis int64) *timestamppb.Timestamp {
	if millis == 0 {
		return nil
	}
	return timestamppb.New(time.UnixMilli(millis))
}

// Etag makes an etag of a revision (AIP-154). It is a strong etag, since a revision names one change for
// ever.
func Etag(revision uint64) string { return strconv.FormatUint(revision, 36) }
