// Package readiness reports what enforcement would reject (B21), and what will do harm unless somebody acts
// (B29). It has pure functions: they read neither a clock nor a store. This package is not part of the public
// API and may change in any release.
package readiness

import (
	"cmp"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/authority/internal/ledger"
)

const (
	// DefaultWindow is the window of a report when the caller names none.
	DefaultWindow = 24 * time.Hour
	// MaxWindow is the longest window of a report.
	MaxWindow = ledger.Days * 24 * time.Hour
	// DefaultMaxRejectedRatio is the share of requests without a token of the app, from 0 to 1, above which
	// they are a blocker when the caller names none.
	DefaultMaxRejectedRatio = 0.01
)

// Input is everything that a report depends on.
type Input struct {
	// Document is the app's present document. The names of its tokens may be empty; then sentences have only
	// their ids.
	Document *record.Document
	// Sums are the app's counts since From. LastUses may reach back further.
	Sums     []ledger.Sum
	From     time.Time
	LastUses []ledger.LastUse
	// Missing says of which requests the counts are missing (see Missing and MissingOf).
	Missing []string
	// Scopes are the scopes that are to be switched on. Only they can have blockers, and each of them needs
	// traffic. The empty set stands for every scope that saw requests.
	Scopes policy.ScopeSet
	// MaxRejectedRatio is the share of a scope's requests without a token of the app, 0 to 1, above which
	// they are a blocker.
	MaxRejectedRatio float64
	// Short leaves out tokens and notices.
	Short bool
	Now   time.Time
}

// Report makes the report on one app. It judges the requests by the app's present tokens: a recognised token
// is checked again as it is now. The report is worth the counts that it is made of; when some are missing, it
// says so and is never READY.
func Report(in Input) *countersignv1.Readiness {
	t := tallyOf(in)
	r := &countersignv1.Readiness{
		AppId: in.Document.AppID, StartTime: timestamppb.New(in.From), EndTime: timestamppb.New(in.Now),
		Missing: in.Missing,
	}
	for _, scope := range t.sortedScopes() {
		r.Scopes = append(r.Scopes, t.scopeReport(scope))
	}
	t.unseen, t.unsupported = Untested(r, t.judgedScopes())
	r.Blockers, r.Warnings = t.findings()
	if !in.Short {
		r.Tokens = t.tokenUses()
		r.Notices = Notices(in.Document, in.Sums, in.LastUses, in.Now)
	}
	r.Verdict = t.verdict(r)
	return r
}

// Untested returns those of some scopes about which a report knows nothing: no request was seen that can
// carry a token. The unseen ones saw no requests at all. The unsupported ones saw only requests of Google Tag
// Manager (B18).
//
// Enforcement rejects every request of Google Tag Manager. Nobody can mend that, so these requests are no
// blocker, which says what to do first. They also do not show whether a sender with a token would be
// accepted. So a scope that saw nothing else counts as one without traffic: the report is not READY, and
// enforcing the scope needs allow_rejections.
func Untested(r *countersignv1.Readiness, scopes policy.ScopeSet) (unseen, unsupported policy.ScopeSet) {
	unseen = scopes
	for _, s := range r.GetScopes() {
		scope := policy.ScopesOf(policy.Scope(s.GetScope()))
		if s.GetRequests() == 0 || scopes&scope == 0 {
			continue
		}
		unseen = unseen.Without(scope)
		var n uint64
		for _, c := range s.GetRejections() {
			if policy.Reason(c.GetReason()) == policy.SourceNotSupported {
				n += c.GetCount()
			}
		}
		if n == s.GetRequests() {
			unsupported |= scope
		}
	}
	return unseen, unsupported
}

// verdict sums a report up. Blockers are certain also when counts are missing. Nothing else is.
func (t *tally) verdict(r *countersignv1.Readiness) countersignv1.ReadinessVerdict {
	switch {
	case len(r.GetBlockers()) > 0:
		return countersignv1.ReadinessVerdict_READINESS_VERDICT_NOT_READY
	case len(r.GetMissing()) > 0:
		return countersignv1.ReadinessVerdict_READINESS_VERDICT_INCOMPLETE
	case t.judgedScopes() == 0 || t.unseen != 0 || t.unsupported != 0:
		return countersignv1.ReadinessVerdict_READINESS_VERDICT_NO_TRAFFIC
	}
	return countersignv1.ReadinessVerdict_READINESS_VERDICT_READY
}

// scopeReport returns the part of the report about one scope.
func (t *tally) scopeReport(scope policy.Scope) *countersignv1.ScopeReadiness {
	s, enforced := t.scopes[scope], t.enforced.Has(scope)
	report := &countersignv1.ScopeReadiness{
		Scope: countersignv1.Scope(scope), Requests: s.requests, Rejected: s.rejected, Enforced: enforced,
	}
	for rejection, n := range s.rejections {
		report.Rejections = append(report.Rejections, &countersignv1.UsageCount{
			AppId: t.in.Document.AppID, TokenId: rejection.tokenID, Scope: countersignv1.Scope(scope),
			Reason: countersignv1.Reason(rejection.reason), Enforced: enforced, Count: n,
		})
	}
	slices.SortFunc(report.Rejections, func(a, b *countersignv1.UsageCount) int {
		return cmp.Or(cmp.Compare(b.GetCount(), a.GetCount()), cmp.Compare(a.GetReason(), b.GetReason()),
			cmp.Compare(a.GetTokenId(), b.GetTokenId()))
	})
	return report
}

// tokenUses returns what each token that is not revoked was used for, in order of creation.
func (t *tally) tokenUses() (uses []*countersignv1.TokenUsage) {
	last := UsesByToken(t.in.LastUses)
	for i := range t.in.Document.Tokens {
		token := &t.in.Document.Tokens[i]
		if token.State == policy.Revoked {
			continue
		}
		counted := t.tokens[token.ID]
		use := &countersignv1.TokenUsage{
			TokenId: token.ID, Name: token.Name, State: countersignv1.TokenState(token.StateAt(t.now)),
			Unscoped: token.Scopes == 0, LastUses: last[token.ID],
		}
		if counted != nil {
			use.Requests, use.Rejected = counted.requests, counted.rejected
		}
		uses = append(uses, use)
	}
	return uses
}

// UsesByToken returns last uses as the contract shows them, by token, each ordered by scope.
func UsesByToken(uses []ledger.LastUse) map[string][]*countersignv1.LastUse {
	byToken := map[string][]*countersignv1.LastUse{}
	for _, use := range uses {
		byToken[use.TokenID] = append(byToken[use.TokenID], &countersignv1.LastUse{
			Scope: countersignv1.Scope(use.Scope), UseTime: timestamppb.New(use.Minute),
		})
	}
	for _, of := range byToken {
		slices.SortFunc(of, func(a, b *countersignv1.LastUse) int { return cmp.Compare(a.GetScope(), b.GetScope()) })
	}
	return byToken
}
