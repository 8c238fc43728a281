package readiness

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/authority/internal/contract"
	"github.com/countersign/countersign/services/authority/internal/ledger"
)

const (
	// expiryLead, rotationLead and trialLead are how long before its end a token, the old token of a rotation
	// and a trial get a notice (B29).
	expiryLead   = 7 * 24 * time.Hour
	rotationLead = 24 * time.Hour
	trialLead    = time.Hour
	// unscopedLife is how recent the last use of an unscoped token must be for it to count as used.
	unscopedLife = 24 * time.Hour
)

// Notices returns what will do harm unless somebody acts (B29), in the order of NoticeKind and of the tokens.
// sums decide only whether own tokens are rejected, so they should be of the last hours. A notice keeps its
// id until what it warns of changes: another end, other scopes. create_time is not set.
func Notices(d *record.Document, sums []ledger.Sum, uses []ledger.LastUse, now time.Time) []*countersignv1.Notice {
	if d == nil || d.Deleted {
		return nil
	}
	n := noticer{d: d, now: now, millis: now.UnixMilli(), last: lastOf(uses)}
	n.tokens()
	n.trial()
	n.rejected(sums)
	slices.SortStableFunc(n.found, func(a, b *countersignv1.Notice) int { return int(a.GetKind()) - int(b.GetKind()) })
	return n.found
}

// MayNotice reports whether a policy can have notices at all, without the names and times of the document. It
// is cheap, and true too often rather than too rarely.
func MayNotice(p *policy.Policy, sums []ledger.Sum, uses []ledger.LastUse, now time.Time) bool {
	if p == nil || p.Deleted() {
		return false
	}
	if end := p.Enforcement().TrialEndMillis; end > now.UnixMilli() && end <= now.Add(trialLead).UnixMilli() {
		return true
	}
	if slices.ContainsFunc(sums, func(s ledger.Sum) bool { return s.Enforced && s.TokenID != "" && !valid(s.Reason) }) {
		return true
	}
	if len(uses) == 0 {
		return false
	}
	enforced := p.Enforcement().At(now.UnixMilli()) != 0
	tokens := p.Tokens()
	return slices.ContainsFunc(tokens, func(t policy.Token) bool {
		return t.State == policy.Active && (enforced && t.Scopes == 0 ||
			t.ExpireMillis > now.UnixMilli() && t.ExpireMillis <= now.Add(expiryLead).UnixMilli())
	})
}

// noticer collects the notices of one app.
type noticer struct {
	d      *record.Document
	now    time.Time
	millis int64
	last   map[string]time.Time
	found  []*countersignv1.Notice
}

// add adds a notice. The id is a digest of the kind, the app, the token and what the notice depends on, so
// that every authority gives it the same id.
func (n *noticer) add(kind countersignv1.NoticeKind, tokenID, text string, due int64, depends ...any) {
	notice := &countersignv1.Notice{
		NoticeId: noticeID(kind, n.d.AppID, tokenID, due, depends), Kind: kind, AppId: n.d.AppID, TokenId: tokenID, Text: text,
	}
	if due != 0 {
		notice.DueTime = timestamppb.New(time.UnixMilli(due))
	}
	n.found = append(n.found, notice)
}

func noticeID(kind countersignv1.NoticeKind, appID, tokenID string, due int64, depends []any) string {
	digest := sha256.Sum256(fmt.Appendf(nil, "%d %s %s %d %v", kind, appID, tokenID, due, depends))
	return "ntc_" + hex.EncodeToString(digest[:16])
}

// lastOf returns the end of the last minute in which each token was used.
func lastOf(uses []ledger.LastUse) map[string]time.Time {
	last := map[string]time.Time{}
	for _, use := range uses {
		if end := use.Minute.Add(time.Minute); end.After(last[use.TokenID]) {
			last[use.TokenID] = end
		}
	}
	return last
}

// usedWithin reports whether a token was used in the last time span.
func (n *noticer) usedWithin(tokenID string, span time.Duration) bool {
	last, used := n.last[tokenID]
	return used && n.now.Sub(last) < span
}

// tokens finds tokens that expire, rotations that end, and unscoped tokens.
func (n *noticer) tokens() {
	enforced := n.d.Enforcement.At(n.millis)
	for i := range n.d.Tokens {
		t := &n.d.Tokens[i]
		if t.StateAt(n.millis) != policy.Active {
			continue
		}
		end := clock(time.UnixMilli(t.EndMillis()))
		switch {
		case !endsWithin(t, n.now, expiryLead):
		case !inOverlap(t):
			if n.usedWithin(t.ID, expiryLead) {
				n.add(countersignv1.NoticeKind_NOTICE_KIND_TOKEN_EXPIRES, t.ID,
					fmt.Sprintf("token %s expires at %s and is still used: %s", nameOf(t), end, beforeEnd(t)), t.EndMillis())
			}
		case endsWithin(t, n.now, rotationLead) && n.usedWithin(t.ID, rotationLead):
			n.add(countersignv1.NoticeKind_NOTICE_KIND_ROTATION_ENDS, t.ID,
				fmt.Sprintf("token %s was rotated and ends at %s, and is still used: %s", nameOf(t), end, beforeEnd(t)), t.EndMillis())
		}
		if t.Scopes == 0 && enforced != 0 && n.usedWithin(t.ID, unscopedLife) {
			n.add(countersignv1.NoticeKind_NOTICE_KIND_UNSCOPED_TOKEN, t.ID,
				fmt.Sprintf("token %s has no scopes, so that it authenticates every scope, and is used while %s is enforced: give it "+
					"the scopes that it needs", nameOf(t), contract.ScopeNames(enforced)), 0, uint64(enforced))
		}
	}
}

// endsWithin reports whether an ACTIVE token ends by itself within a time span.
func endsWithin(t *record.Token, now time.Time, span time.Duration) bool {
	return t.StateAt(now.UnixMilli()) == policy.Active && t.ExpireMillis != 0 && t.ExpireMillis <= now.Add(span).UnixMilli()
}

// inOverlap reports whether a token ends with the overlap of its rotation, not by its own expiry. A record of
// an earlier release has one time for both.
func inOverlap(t *record.Token) bool {
	if t.OwnExpireMillis == 0 && t.OverlapEndMillis == 0 {
		return t.SuccessorID != ""
	}
	return t.OverlapEndMillis != 0 && t.OverlapEndMillis == t.EndMillis()
}

// beforeEnd says what to do before a token ends.
func beforeEnd(t *record.Token) string {
	if t.SuccessorID != "" {
		return fmt.Sprintf("give its senders its successor %s, or extend the overlap", t.SuccessorID)
	}
	return "rotate it and give its senders the successor, or give it a later expiry"
}

// trial finds a trial that ends within the hour and changes something by it.
func (n *noticer) trial() {
	e := n.d.Enforcement
	if e.TrialEndMillis <= n.millis || e.TrialEndMillis > n.now.Add(trialLead).UnixMilli() || e.Scopes == e.After {
		return
	}
	after := "nothing is enforced"
	if e.After != 0 {
		after = contract.ScopeNames(e.After) + " is enforced"
	}
	n.add(countersignv1.NoticeKind_NOTICE_KIND_TRIAL_ENDS, "",
		fmt.Sprintf("the trial of %s ends at %s, and then %s: set the enforcement without an end to keep it",
			contract.ScopeNames(e.Scopes), clock(time.UnixMilli(e.TrialEndMillis)), after), e.TrialEndMillis)
}

// rejected finds own tokens that were rejected while their scope was enforced, and would be again.
func (n *noticer) rejected(sums []ledger.Sum) {
	byID := tokensByID(n.d)
	enforced := n.d.Enforcement.At(n.millis)
	found := map[string]map[policy.Reason]*refusal{}
	for _, sum := range sums {
		t := byID[sum.TokenID]
		if t == nil || sum.N == 0 || !sum.Enforced || !enforced.Has(sum.Scope) || valid(sum.Reason) {
			continue
		}
		reason := judge(t, sum.Kind, n.millis)
		if valid(reason) || reason == policy.TokenRevoked || reason == policy.SourceNotSupported {
			continue
		}
		if found[t.ID] == nil {
			found[t.ID] = map[policy.Reason]*refusal{}
		}
		if found[t.ID][reason] == nil {
			found[t.ID][reason] = &refusal{}
		}
		found[t.ID][reason].requests += sum.N
		found[t.ID][reason].scopes |= policy.ScopesOf(sum.Scope)
	}
	for i := range n.d.Tokens {
		t := &n.d.Tokens[i]
		for _, reason := range slices.Sorted(maps.Keys(found[t.ID])) {
			refused := found[t.ID][reason]
			why, do := "which it is not granted", "add the scope or stop the caller"
			switch reason {
			case policy.TokenDisabled:
				why, do = "although it is disabled", "enable it, or give its senders another token"
			case policy.TokenExpired:
				why, do = "although it has expired", "give its senders the token that replaces it, or a later expiry"
			}
			// The number of requests grows, so the id does not depend on it.
			n.add(countersignv1.NoticeKind_NOTICE_KIND_OWN_TOKENS_REJECTED, t.ID,
				fmt.Sprintf("%s with token %s for %s are rejected, %s: %s", requests(refused.requests), nameOf(t),
					contract.ScopeNames(refused.scopes), why, do),
				0, reason, uint64(refused.scopes), uint64(t.Scopes), t.EndMillis())
		}
	}
}
