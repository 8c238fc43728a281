package readiness

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/services/authority/internal/contract"
)

// findings returns the blockers and the warnings of a report (B21), each as sentences that say what to do.
func (t *tally) findings() (blockers, warnings []string) {
	own, revoked := t.ownRejections()
	blockers = own
	for _, scope := range t.sortedScopes() {
		if !t.judged(scope) {
			continue
		}
		if sentence, blocks := t.foreign(scope); blocks {
			blockers = append(blockers, sentence)
		} else if sentence != "" {
			warnings = append(warnings, sentence)
		}
		if sentence := t.tagManager(scope); sentence != "" {
			warnings = append(warnings, sentence)
		}
	}
	warnings = append(warnings, revoked...)
	warnings = append(warnings, t.remembered()...)
	warnings = append(warnings, t.withoutRequests()...)
	warnings = append(warnings, t.unscoped()...)
	warnings = append(warnings, t.ending()...)
	warnings = append(warnings, t.unused()...)
	return blockers, warnings
}

// ownRejections returns a sentence for each own token whose requests would be rejected, the most used first.
// Requests with revoked tokens are separate: it is wanted that they are rejected.
func (t *tally) ownRejections() (own, revoked []string) {
	type row struct {
		token  *record.Token
		reason policy.Reason
		*refusal
	}
	var rows []row
	for id, uses := range t.tokens {
		for reason, refused := range uses.refused {
			rows = append(rows, row{t.byID[id], reason, refused})
		}
	}
	slices.SortFunc(rows, func(a, b row) int {
		return cmp.Or(cmp.Compare(b.requests, a.requests), cmp.Compare(a.token.ID, b.token.ID), cmp.Compare(a.reason, b.reason))
	})
	for _, r := range rows {
		used := fmt.Sprintf("token %s was used %s for %s, ", nameOf(r.token), times(r.requests), contract.ScopeNames(r.scopes))
		switch r.reason {
		case policy.ScopeNotGranted:
			which := "which it is not granted: add the scope or stop the caller"
			if r.scopes.Len() > 1 {
				which = "which it is not granted: add the scopes or stop the callers"
			}
			own = append(own, used+which)
		case policy.TokenDisabled:
			own = append(own, used+"but it is disabled: enable it, or give its senders another token")
		case policy.TokenExpired:
			own = append(own, used+fmt.Sprintf("but it expired at %s: give its senders the token that replaces it, or a later expiry",
				clock(time.UnixMilli(r.token.EndMillis()))))
		case policy.TokenRevoked:
			revoked = append(revoked, used+"but it is revoked: requests with it are rejected, as intended")
		}
	}
	return limited(own, "tokens of the app whose requests would be rejected"), limited(revoked, "revoked tokens in use")
}

// foreign returns the sentence about a scope's requests without a token of the app, and whether they are too
// many. It is empty without such requests. Forgeries are why one enforces, so a few of them do not block.
func (t *tally) foreign(scope policy.Scope) (sentence string, blocks bool) {
	s := t.scopes[scope]
	var parts []string
	var n uint64
	for _, kind := range []struct {
		reason policy.Reason
		text   string
	}{
		{policy.TokenMissing, "without a token"},
		{policy.TokenMalformed, "malformed"},
		{policy.TokenUnknown, "unknown"},
	} {
		var of uint64
		for r, requests := range s.rejections {
			if r.reason == kind.reason {
				of += requests
			}
		}
		if of > 0 {
			parts, n = append(parts, count(of)+" "+kind.text), n+of
		}
	}
	if n == 0 {
		return "", false
	}
	share := float64(n) / float64(s.requests)
	text := fmt.Sprintf("%s: %s of %s (%s) carried no token of the app (%s)", contract.ScopeNames(policy.ScopesOf(scope)),
		count(n), requests(s.requests), percent(share), strings.Join(parts, ", "))
	if share > t.in.MaxRejectedRatio {
		return fmt.Sprintf("%s, more than the %s that may be rejected: give the senders one of the app's tokens, or allow a "+
			"larger share if these are forgeries", text, percent(t.in.MaxRejectedRatio)), true
	}
	return text + ": they are rejected, which is right if they are forgeries", false
}

// tagManager returns the sentence about requests that can never carry a token (B18).
func (t *tally) tagManager(scope policy.Scope) string {
	var n uint64
	for r, of := range t.scopes[scope].rejections {
		if r.reason == policy.SourceNotSupported {
			n += of
		}
	}
	if n == 0 {
		return ""
	}
	text := fmt.Sprintf("%s: %s came from Google Tag Manager, which cannot send tokens: they are rejected while the scope is "+
		"enforced", contract.ScopeNames(policy.ScopesOf(scope)), requests(n))
	if t.unsupported.Has(scope) {
		text += "; no other requests were seen, so that it is unknown whether requests with tokens would be accepted"
	}
	return text
}

// remembered returns the sentence about requests with tokens that were revoked so long ago that the app does
// not list them any more.
func (t *tally) remembered() []string {
	var n uint64
	for scope, s := range t.scopes {
		for r, of := range s.rejections {
			if t.judged(scope) && r.reason == policy.TokenRevoked && t.byID[r.tokenID] == nil {
				n += of
			}
		}
	}
	if n == 0 {
		return nil
	}
	return []string{requests(n) + " carried tokens that were revoked long ago: they are rejected, as intended"}
}

// withoutRequests returns the sentence about scopes that are to be switched on and saw no requests.
func (t *tally) withoutRequests() []string {
	if t.unseen == 0 {
		return nil
	}
	return []string{fmt.Sprintf("no requests for %s were seen: what enforcement would reject there is unknown",
		contract.ScopeNames(t.unseen))}
}

// unscoped returns a sentence for each unscoped token in use.
func (t *tally) unscoped() (sentences []string) {
	for i := range t.in.Document.Tokens {
		token := &t.in.Document.Tokens[i]
		uses := t.tokens[token.ID]
		if token.Scopes != 0 || uses == nil || token.StateAt(t.now) != policy.Active {
			continue
		}
		sentences = append(sentences, fmt.Sprintf(
			"token %s has no scopes, so that it authenticates every scope; it was used %s for %s: give it the scopes that it needs",
			nameOf(token), times(uses.requests), contract.ScopeNames(uses.scopes)))
	}
	return limited(sentences, "unscoped tokens in use")
}

// ending returns a sentence for each token that was used and expires soon.
func (t *tally) ending() (sentences []string) {
	for i := range t.in.Document.Tokens {
		token := &t.in.Document.Tokens[i]
		uses := t.tokens[token.ID]
		if uses == nil || !endsWithin(token, t.in.Now, expiryLead) {
			continue
		}
		sentences = append(sentences, fmt.Sprintf("token %s was used %s and expires at %s: %s", nameOf(token),
			times(uses.requests), clock(time.UnixMilli(token.EndMillis())), beforeEnd(token)))
	}
	return limited(sentences, "tokens in use that expire soon")
}

// unused returns the sentence about ACTIVE tokens that were not used in the window.
func (t *tally) unused() []string {
	var names []string
	for i := range t.in.Document.Tokens {
		token := &t.in.Document.Tokens[i]
		if t.tokens[token.ID] == nil && token.StateAt(t.now) == policy.Active {
			names = append(names, nameOf(token))
		}
	}
	subject, advice := count(uint64(len(names)))+" active tokens were", "revoke those that nothing needs"
	switch len(names) {
	case 0:
		return nil
	case 1:
		subject, advice = "1 active token was", "revoke it if nothing needs it"
	}
	if len(t.in.Missing) > 0 {
		advice = "but counts are missing, so do not revoke anything for that"
	}
	return []string{fmt.Sprintf("%s not used since %s: %s; %s", subject, clock(t.in.From), list(names), advice)}
}
