package readiness

import (
	"maps"
	"slices"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/services/authority/internal/ledger"
)

// tally is the counts of an app, judged by its present tokens.
type tally struct {
	in       Input
	now      int64 // in milliseconds since the Unix epoch
	enforced policy.ScopeSet
	byID     map[string]*record.Token
	scopes   map[policy.Scope]*scopeTally
	tokens   map[string]*tokenTally // only tokens of the document
	// unseen and unsupported are the judged scopes without a request that can carry a token; see Untested.
	unseen, unsupported policy.ScopeSet
}

// scopeTally is the counts of one scope.
type scopeTally struct {
	requests, rejected uint64
	rejections         map[rejection]uint64
}

// rejection is why requests are rejected. Without a token id they carried no token of the app.
type rejection struct {
	reason  policy.Reason
	tokenID string
}

// tokenTally is the counts of one token.
type tokenTally struct {
	requests, rejected uint64
	// scopes are the scopes that the token was used for.
	scopes policy.ScopeSet
	// refused has the rejected requests by reason.
	refused map[policy.Reason]*refusal
}

// refusal is the requests with one token that are rejected for one reason.
type refusal struct {
	requests uint64
	scopes   policy.ScopeSet
}

func tallyOf(in Input) *tally {
	now := in.Now.UnixMilli()
	t := &tally{
		in: in, now: now, enforced: in.Document.Enforcement.At(now), byID: tokensByID(in.Document),
		scopes: map[policy.Scope]*scopeTally{}, tokens: map[string]*tokenTally{},
	}
	for _, sum := range in.Sums {
		if sum.N > 0 && sum.Reason != policy.AppNotConfigured {
			t.add(sum)
		}
	}
	return t
}

func tokensByID(d *record.Document) map[string]*record.Token {
	byID := make(map[string]*record.Token, len(d.Tokens))
	for i := range d.Tokens {
		byID[d.Tokens[i].ID] = &d.Tokens[i]
	}
	return byID
}

func (t *tally) add(sum ledger.Sum) {
	reason := judge(t.byID[sum.TokenID], sum.Kind, t.now)
	rejected := !valid(reason)
	s := t.scopes[sum.Scope]
	if s == nil {
		s = &scopeTally{rejections: map[rejection]uint64{}}
		t.scopes[sum.Scope] = s
	}
	s.requests += sum.N
	if rejected {
		s.rejected += sum.N
		s.rejections[rejection{reason, sum.TokenID}] += sum.N
	}
	if t.byID[sum.TokenID] == nil {
		return
	}
	own := t.tokens[sum.TokenID]
	if own == nil {
		own = &tokenTally{refused: map[policy.Reason]*refusal{}}
		t.tokens[sum.TokenID] = own
	}
	own.requests += sum.N
	own.scopes |= policy.ScopesOf(sum.Scope)
	if !rejected {
		return
	}
	own.rejected += sum.N
	if !t.judged(sum.Scope) {
		return
	}
	refused := own.refused[reason]
	if refused == nil {
		refused = &refusal{}
		own.refused[reason] = refused
	}
	refused.requests += sum.N
	refused.scopes |= policy.ScopesOf(sum.Scope)
}

// judge returns the verdict that a request would get now. A recognised token is checked again; t is nil for
// every other request. Requests of a tag manager are never judged by their token (B18). A token that the app
// does not list any more is unknown, unless it was revoked: revoked tokens are remembered. The same holds for
// a rejected request whose token had an id that was not kept.
func judge(t *record.Token, kind ledger.Kind, nowMillis int64) policy.Reason {
	switch {
	case kind.Reason == policy.SourceNotSupported || t == nil && kind.Reason == policy.TokenRevoked:
		return kind.Reason
	case t == nil && (kind.TokenID != "" || recognised(kind.Reason)):
		return policy.TokenUnknown
	case t == nil:
		return kind.Reason
	}
	switch t.StateAt(nowMillis) {
	case policy.Revoked:
		return policy.TokenRevoked
	case policy.Disabled:
		return policy.TokenDisabled
	case policy.Expired:
		return policy.TokenExpired
	}
	switch {
	case !t.Authenticates(kind.Scope, nowMillis):
		return policy.ScopeNotGranted
	case t.Scopes == 0:
		return policy.TokenValidUnscoped
	}
	return policy.TokenValid
}

// recognised tells the reasons for which a token of the app is rejected.
func recognised(reason policy.Reason) bool {
	return reason == policy.TokenDisabled || reason == policy.TokenExpired || reason == policy.ScopeNotGranted
}

func valid(reason policy.Reason) bool {
	return reason == policy.TokenValid || reason == policy.TokenValidUnscoped
}

// judged reports whether the report says what switching a scope on would do.
func (t *tally) judged(scope policy.Scope) bool { return t.in.Scopes == 0 || t.in.Scopes.Has(scope) }

// judgedScopes returns all judged scopes.
func (t *tally) judgedScopes() policy.ScopeSet {
	if t.in.Scopes != 0 {
		return t.in.Scopes
	}
	return policy.ScopesOf(t.sortedScopes()...)
}

func (t *tally) sortedScopes() []policy.Scope { return slices.Sorted(maps.Keys(t.scopes)) }
