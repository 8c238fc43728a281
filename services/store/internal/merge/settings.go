package merge

import (
	"strconv"
	"strings"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// unionOf returns an enforcement that at any time enforces at least every scope that a or b enforces. It
// enforces more only when a and b are trials with different ends, because an enforcement can change only
// once: then the scopes of the shorter trial stay enforced until the longer one ends.
func unionOf(a, b policy.Enforcement) policy.Enforcement {
	switch {
	case a == b:
		return a
	case a.TrialEndMillis == b.TrialEndMillis:
		return policy.Enforcement{Scopes: a.Scopes | b.Scopes, TrialEndMillis: a.TrialEndMillis, After: a.After | b.After}
	case a.TrialEndMillis == 0:
		return policy.Enforcement{Scopes: a.Scopes | b.Scopes, TrialEndMillis: b.TrialEndMillis, After: a.Scopes | b.After}
	case b.TrialEndMillis == 0:
		return unionOf(b, a)
	}
	all := a.Scopes | b.Scopes
	if a.TrialEndMillis < b.TrialEndMillis {
		all |= a.After
	} else {
		all |= b.After
	}
	return policy.Enforcement{Scopes: all, TrialEndMillis: max(a.TrialEndMillis, b.TrialEndMillis), After: a.After | b.After}
}

func enforcementText(e policy.Enforcement) string {
	if e.TrialEndMillis == 0 {
		return scopesText(e.Scopes)
	}
	return scopesText(e.Scopes) + " until " + timeText(e.TrialEndMillis) + ", then " + scopesText(e.After)
}

func scopesText(set policy.ScopeSet) string {
	var names []string
	for s := range set.All() {
		names = append(names, strings.TrimPrefix(countersignv1.Scope(s).String(), "SCOPE_"))
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

func stateText(s policy.State) string {
	return strings.TrimPrefix(countersignv1.TokenState(s).String(), "TOKEN_STATE_")
}

func timeText(millis int64) string {
	switch millis {
	case 0:
		return "never"
	case policy.Ended:
		return "ended"
	}
	return time.UnixMilli(millis).UTC().Format(time.RFC3339Nano)
}

// spanText writes a time span in milliseconds; 0 is none.
func spanText(millis int64) string {
	if millis == 0 {
		return "none"
	}
	return (time.Duration(millis) * time.Millisecond).String()
}

func boolText(b bool) string { return strconv.FormatBool(b) }
