package show

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/countersign/internal/words"
)

// Scopes writes the scopes of a token. A token without scopes authenticates every scope (B05).
func Scopes(scopes []countersignv1.Scope) string {
	if len(scopes) == 0 {
		return "any (unscoped)"
	}
	return words.ListScopes(scopes)
}

// Token returns the rows of one token.
func Token(appID string, t *countersignv1.Token, now time.Time) []Row {
	rows := []Row{
		{"Token", t.GetTokenId()},
		{"App", appID},
		{"Name", words.Printable(t.GetName())},
		{"Scopes", Scopes(t.GetScopes())},
		{"State", words.Enum(t.GetState())},
		{"Expires", expiry(t, now)},
		{"Note", words.Printable(t.GetNote())},
		{"Hint", words.Printable(t.GetHint())},
		{"Created", words.Time(t.GetCreateTime(), now) + " by " + words.Printable(t.GetCreatedBy())},
		{"Changed", words.Time(t.GetUpdateTime(), now)},
	}
	if t.GetOverlapEndTime() != nil {
		rows = append(rows, Row{"Overlap ends", words.Time(t.GetOverlapEndTime(), now)})
	}
	if t.GetRevokeTime() != nil {
		rows = append(rows, Row{"Revoked", words.Time(t.GetRevokeTime(), now)})
	}
	for _, use := range t.GetLastUses() {
		rows = append(rows, Row{
			"Last used for " + words.ListScopes([]countersignv1.Scope{use.GetScope()}),
			words.Time(use.GetUseTime(), now),
		})
	}
	if t.GetUntilUnused() != nil {
		rows = append(rows, Row{"Ends unused", "once it has not been used for " + words.Span(t.GetUntilUnused().AsDuration())})
	}
	if t.GetImported() {
		rows = append(rows, Row{"Imported", "yes"})
	}
	return append(rows, Row{"Replaces", t.GetPredecessorId()}, Row{"Replaced by", t.GetSuccessorId()}, Row{"Etag", t.GetEtag()})
}

func expiry(t *countersignv1.Token, now time.Time) string {
	if t.GetExpireTime() == nil {
		return "never"
	}
	return words.Time(t.GetExpireTime(), now)
}

// TokenHeading is the heading over TokenCells.
var TokenHeading = []string{"TOKEN", "NAME", "SCOPES", "STATE", "HINT", "LAST USE", "EXPIRES", "CREATED", "BY", "CHANGED"}

// TokenCells returns a token's row in a list.
func TokenCells(t *countersignv1.Token, now time.Time) []string {
	expires := "never"
	if t.GetExpireTime() != nil {
		expires = words.Relative(t.GetExpireTime(), now)
	}
	hint := words.Printable(t.GetHint())
	if hint == "" {
		hint = "-"
	}
	return []string{
		t.GetTokenId(), words.Printable(t.GetName()), Scopes(t.GetScopes()), words.Enum(t.GetState()), hint,
		words.Ago(LastUse(t.GetLastUses()), now), expires,
		words.Relative(t.GetCreateTime(), now), words.Printable(t.GetCreatedBy()), words.Relative(t.GetUpdateTime(), now),
	}
}

// LastUse returns the latest of some last uses; nil when there is none.
func LastUse(uses []*countersignv1.LastUse) *timestamppb.Timestamp {
	var last *timestamppb.Timestamp
	for _, use := range uses {
		if last == nil || use.GetUseTime().AsTime().After(last.AsTime()) {
			last = use.GetUseTime()
		}
	}
	return last
}

// Rotations returns tokens in an order in which each successor follows its predecessor, if both are there,
// and the ids of the tokens that do so. Otherwise it keeps the order.
func Rotations(tokens []*countersignv1.Token) (ordered []*countersignv1.Token, follows map[string]bool) {
	byID := make(map[string]*countersignv1.Token, len(tokens))
	for _, t := range tokens {
		byID[t.GetTokenId()] = t
	}
	follows, done := map[string]bool{}, make(map[string]bool, len(tokens))
	add := func(t *countersignv1.Token) {
		for ; t != nil && !done[t.GetTokenId()]; t = byID[t.GetSuccessorId()] {
			follows[t.GetTokenId()] = len(ordered) > 0 && t.GetPredecessorId() != "" &&
				ordered[len(ordered)-1].GetTokenId() == t.GetPredecessorId()
			ordered, done[t.GetTokenId()] = append(ordered, t), true
		}
	}
	for _, t := range tokens {
		if byID[t.GetPredecessorId()] == nil {
			add(t)
		}
	}
	for _, t := range tokens {
		add(t) // what only a ring of predecessors would leave out
	}
	return ordered, follows
}
