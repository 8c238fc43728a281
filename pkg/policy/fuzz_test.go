package policy_test

import (
	"maps"
	"math"
	"slices"
	"testing"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/secret"
)

// FuzzDecide sends anything to apps of every kind, and checks what holds for every verdict.
func FuzzDecide(f *testing.F) {
	every := ^policy.ScopeSet(0)
	apps := []*policy.Policy{
		nil,
		deletedPolicy(f, enforce(events), minted()...),
		newPolicy(f, enforce()),
		newPolicy(f, enforce(), minted()...),
		newPolicy(f, enforce(events, gdpr), minted()...),
		newPolicy(f, policy.Enforcement{Scopes: every}, minted()...),
		newPolicy(f, policy.Enforcement{Scopes: every}, withImported()...),
		newPolicy(f, trial([]policy.Scope{events, future}, sessions), withImported()...),
	}
	// The fixture's secrets differ between processes of the fuzzer, so inputs name them.
	names := slices.Sorted(maps.Keys(texts))
	for i := range names {
		f.Add("", uint8(i), uint8(events-1), int32(none), now)
		f.Add("", uint8(i), uint8(future-1), int32(gtm), now-1)
		f.Add("", uint8(i), uint8(gdpr-1), int32(math.MinInt32), int64(math.MaxInt64))
	}
	f.Fuzz(func(t *testing.T, text string, name, scopeByte uint8, source int32, nowMillis int64) {
		if text == "" {
			text = texts[names[int(name)%len(names)]]
		}
		r := policy.Request{
			Token: secret.New(text), Scope: policy.Scope(1 + scopeByte%63), Source: policy.Source(source), NowMillis: nowMillis,
		}
		for i, app := range apps {
			d := policy.Decide(app, r)
			if again := policy.Decide(app, r); again != d {
				t.Errorf("app %d answered one request with %+v and %+v", i, d, again)
			}
			checkInvariants(t, app, r, d)
		}
	})
}

func checkInvariants(t *testing.T, app *policy.Policy, r policy.Request, d policy.Decision) {
	t.Helper()
	fail := func(words string) {
		t.Helper()
		t.Errorf("%s: %+v for %+v", words, d, r)
	}
	if app == nil || app.Deleted() {
		if d != pass(policy.AppNotConfigured, "") {
			fail("an app without a policy is not allowed")
		}
		return
	}
	var recognised, valid bool
	switch d.Reason {
	case policy.TokenValid, policy.TokenValidUnscoped:
		recognised, valid = true, true
	case policy.TokenRevoked, policy.TokenDisabled, policy.TokenExpired, policy.ScopeNotGranted:
		recognised = true
	case policy.TokenMissing, policy.TokenMalformed, policy.TokenUnknown, policy.SourceNotSupported:
	default:
		fail("this reason is not one for an app with a policy")
	}
	if d.Enforced != app.Enforcement().At(r.NowMillis).Has(r.Scope) {
		fail("enforced is not what the policy says")
	}
	if (d.Reason == policy.SourceNotSupported) != (r.Source == policy.SourceGoogleTagManager) {
		fail("B18 is about its source and no other")
	}
	if !d.Enforced && !d.Allow && (d.Reason != policy.SourceNotSupported || r.Token.Reveal() == "") {
		fail("B13 a scope that is not enforced is denied")
	}
	if d.Enforced && d.Allow && !valid {
		fail("an enforced scope is allowed without a valid token")
	}
	if !d.Allow && valid {
		fail("a valid token is denied")
	}
	if d.Reason == policy.TokenMissing && r.Token.Reveal() != "" {
		fail("a token is missing that is there")
	}
	if recognised != (d.TokenID != "") {
		fail("the token's id is there exactly when it was recognised")
	}
	if recognised {
		token := app.FindDigest(r.Token.Digest())
		if token == nil || token.ID != d.TokenID {
			fail("the token is not the one that was sent")
		} else if valid != token.Authenticates(r.Scope, r.NowMillis) {
			fail("the verdict is not what the token is worth")
		}
	}
}
