package rules

import (
	"fmt"
	"math"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
)

// guardLockout refuses a change after which an enforced scope loses its last token sooner than without the
// change (B16): at once, or when the remaining tokens expire. It allows the change when the same lockout
// comes anyway, at the same time or sooner.
func guardLockout(before, after *record.Document, by By, allow bool) error {
	if allow {
		return nil
	}
	var bare policy.ScopeSet
	first := int64(math.MaxInt64)
	for scope := range after.Enforcement.Ever(by.millis()).All() {
		until := authenticatedUntil(after, scope, by.millis())
		if until < authenticatedUntil(before, scope, by.millis()) && after.Enforcement.Ever(until).Has(scope) {
			bare |= policy.ScopesOf(scope)
			first = min(first, until)
		}
	}
	if bare == 0 {
		return nil
	}
	from := ""
	if first > by.millis() {
		from = fmt.Sprintf("from %s on, ", time.UnixMilli(first).UTC().Format(time.RFC3339))
	}
	return &Error{
		Kind: Unmet, Reason: "LOCKOUT", Subject: "apps/" + after.AppID, Scopes: bare,
		text: from + "no active token would be left for " + scopesMark +
			", which is enforced; set allow_lockout to do it all the same",
	}
}

// authenticatedUntil returns when the last token that authenticates a scope now expires, in milliseconds
// since the Unix epoch: math.MaxInt64 for never, and now when there is no such token. No token begins to work
// by itself. So the scope has a token until then, and none afterwards.
func authenticatedUntil(d *record.Document, scope policy.Scope, nowMillis int64) int64 {
	until := nowMillis
	for i := range d.Tokens {
		t := &d.Tokens[i]
		switch {
		case !t.Authenticates(scope, nowMillis):
		case t.ExpireMillis == 0:
			return math.MaxInt64
		default:
			until = max(until, t.ExpireMillis)
		}
	}
	return until
}
