package policy_test

import (
	"slices"
	"testing"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/secret"
)

// row is one request to one app, and the wanted decision in the words of the rules: what to do, whether the
// scope was enforced, why, and by which token.
type row struct {
	rule   string
	app    *policy.Policy
	token  string
	scope  policy.Scope
	source policy.Source
	want   policy.Decision
}

func (r row) check(t *testing.T) {
	t.Run(r.rule, func(t *testing.T) {
		request := policy.Request{Token: secret.New(texts[r.token]), Scope: r.scope, Source: r.source, NowMillis: now}
		if got := policy.Decide(r.app, request); got != r.want {
			t.Errorf("token %q, scope %d, source %d:\n got %+v\nwant %+v", r.token, r.scope, r.source, got, r.want)
		}
	})
}

func accept(reason policy.Reason, id string) policy.Decision {
	return policy.Decision{Allow: true, Enforced: true, Reason: reason, TokenID: id}
}

func deny(reason policy.Reason, id string) policy.Decision {
	return policy.Decision{Allow: false, Enforced: true, Reason: reason, TokenID: id}
}

// pass is the answer for a scope that is not enforced.
func pass(reason policy.Reason, id string) policy.Decision {
	return policy.Decision{Allow: true, Enforced: false, Reason: reason, TokenID: id}
}

// TestB19_Verdicts checks each verdict with the scope enforced and, by B13, with it not enforced.
func TestB19_Verdicts(t *testing.T) {
	all := enforce(events, sessions, revenue, gdpr, future)
	off := enforce()
	tests := []struct {
		rule   string
		tokens []policy.Token
		token  string
		scope  policy.Scope
		reason policy.Reason
		id     string
	}{
		{"valid for its scope", minted(), tokEvents, events, policy.TokenValid, tokEvents},
		{"valid for one of two", minted(), tokEventsSessions, sessions, policy.TokenValid, tokEventsSessions},
		{"valid for scope 63", minted(), tokFuture, future, policy.TokenValid, tokFuture},
		{"B05 unscoped, events", minted(), tokUnscoped, events, policy.TokenValidUnscoped, tokUnscoped},
		{"B05 unscoped, revenue", minted(), tokUnscoped, revenue, policy.TokenValidUnscoped, tokUnscoped},
		{"B05 unscoped, scope 63", minted(), tokUnscoped, future, policy.TokenValidUnscoped, tokUnscoped},
		{"B05 unscoped, GDPR", minted(), tokUnscoped, gdpr, policy.TokenValidUnscoped, tokUnscoped},

		{"no token", minted(), noToken, events, policy.TokenMissing, ""},
		{"B03 mistyped", minted(), mistyped, events, policy.TokenMalformed, ""},
		{"B03 foreign", minted(), foreign, events, policy.TokenMalformed, ""},
		{"B03 longest", minted(), atLimit, events, policy.TokenMalformed, ""},
		{"B03 over-long", minted(), beyondLimit, events, policy.TokenMalformed, ""},
		{"another app's token", minted(), otherApp, events, policy.TokenUnknown, ""},
		{"any token of an app without tokens", nil, tokEvents, events, policy.TokenUnknown, ""},
		{"no token, app without tokens", nil, noToken, events, policy.TokenMissing, ""},

		{"B08 revoked", minted(), tokRevoked, events, policy.TokenRevoked, tokRevoked},
		{"B08 disabled", minted(), tokDisabled, events, policy.TokenDisabled, tokDisabled},
		{"B08 expired this very millisecond", minted(), tokExpired, events, policy.TokenExpired, tokExpired},
		{"B08 expires the next millisecond", minted(), tokExpiring, events, policy.TokenValid, tokExpiring},
		{"B08 revoked and expired", minted(), tokRevokedExpired, events, policy.TokenRevoked, tokRevokedExpired},
		{"B08 disabled and expired", minted(), tokDisabledExpired, events, policy.TokenDisabled, tokDisabledExpired},
		{"B08 revoked and unscoped", minted(), tokRevokedUnscoped, events, policy.TokenRevoked, tokRevokedUnscoped},

		{"other scope", minted(), tokEvents, sessions, policy.ScopeNotGranted, tokEvents},
		{"other scope of two", minted(), tokEventsSessions, revenue, policy.ScopeNotGranted, tokEventsSessions},
		{"scope 63 not granted", minted(), tokEvents, future, policy.ScopeNotGranted, tokEvents},
		{"scope 63 alone granted", minted(), tokFuture, events, policy.ScopeNotGranted, tokFuture},
		{"other scope and revoked", minted(), tokRevoked, revenue, policy.TokenRevoked, tokRevoked},
		{"other scope and disabled", minted(), tokDisabled, revenue, policy.TokenDisabled, tokDisabled},
		{"other scope and expired", minted(), tokExpired, revenue, policy.TokenExpired, tokExpired},

		{"B14 GDPR, any active token", minted(), tokEvents, gdpr, policy.TokenValid, tokEvents},
		{"B14 GDPR, active token of scope 63", minted(), tokFuture, gdpr, policy.TokenValid, tokFuture},
		{"B14 GDPR, about to expire", minted(), tokExpiring, gdpr, policy.TokenValid, tokExpiring},
		{"B14 GDPR, revoked", minted(), tokRevoked, gdpr, policy.TokenRevoked, tokRevoked},
		{"B14 GDPR, disabled", minted(), tokDisabled, gdpr, policy.TokenDisabled, tokDisabled},
		{"B14 GDPR, expired", minted(), tokExpired, gdpr, policy.TokenExpired, tokExpired},
		{"B14 GDPR, another app's token", minted(), otherApp, gdpr, policy.TokenUnknown, ""},
		{"B14 GDPR, no token", minted(), noToken, gdpr, policy.TokenMissing, ""},

		{"B11 imported", withImported(), tokImported, events, policy.TokenValid, tokImported},
		{"B11 imported, other scope", withImported(), tokImported, sessions, policy.ScopeNotGranted, tokImported},
		{"B11 imported, GDPR", withImported(), tokImported, gdpr, policy.TokenValid, tokImported},
		{"B11 imported, revoked", withImported(), tokImportedRevoked, events, policy.TokenRevoked, tokImportedRevoked},
		{"B11 imported, longest", withImported(), tokImportedLong, events, policy.TokenValid, tokImportedLong},
		{"B11 foreign is looked up", withImported(), foreign, events, policy.TokenUnknown, ""},
		{"B11 mistyped is looked up", withImported(), mistyped, events, policy.TokenUnknown, ""},
		{"B11 longest is looked up", withImported(), atLimit, events, policy.TokenUnknown, ""},
		{"B11 over-long is not", withImported(), beyondLimit, events, policy.TokenMalformed, ""},
		{"B11 no token", withImported(), noToken, events, policy.TokenMissing, ""},
		{"B11 minted beside imported", withImported(), tokEvents, events, policy.TokenValid, tokEvents},
		{"B11 another app's imported", minted(), tokImported, events, policy.TokenMalformed, ""},
		{"B11 imported before the others", importedFirst(), foreign, events, policy.TokenUnknown, ""},
		{"B11 a revoked import still counts", onlyRevokedImport(), foreign, events, policy.TokenUnknown, ""},
		{
			"B11 a revoked import is known", onlyRevokedImport(), tokImportedRevoked, events,
			policy.TokenRevoked, tokImportedRevoked,
		},
	}
	for _, tt := range tests {
		want := deny(tt.reason, tt.id)
		if tt.reason == policy.TokenValid || tt.reason == policy.TokenValidUnscoped {
			want = accept(tt.reason, tt.id)
		}
		row{tt.rule + ", enforced", newPolicy(t, all, tt.tokens...), tt.token, tt.scope, none, want}.check(t)
		// B13: the verdict is the same as with enforcement.
		want = pass(tt.reason, tt.id)
		row{"B13 " + tt.rule + ", off", newPolicy(t, off, tt.tokens...), tt.token, tt.scope, none, want}.check(t)
	}
}

func importedFirst() []policy.Token {
	tokens := withImported()
	slices.Reverse(tokens)
	return tokens
}

func onlyRevokedImport() []policy.Token {
	revoked := token(tokImportedRevoked, policy.Revoked, 0, events)
	revoked.Imported = true
	return []policy.Token{token(tokEvents, policy.Active, 0, events), revoked}
}

// TestB13_OneScopeAtATime: the enforcement of one scope does not affect another.
func TestB13_OneScopeAtATime(t *testing.T) {
	app := newPolicy(t, enforce(sessions, gdpr), minted()...)
	for _, tt := range []row{
		{"no token, enforced", app, noToken, sessions, none, deny(policy.TokenMissing, "")},
		{"no token, not enforced", app, noToken, events, none, pass(policy.TokenMissing, "")},
		{"other scope, enforced", app, tokEvents, sessions, none, deny(policy.ScopeNotGranted, tokEvents)},
		{"other scope, not enforced", app, tokEvents, revenue, none, pass(policy.ScopeNotGranted, tokEvents)},
		{"valid, not enforced", app, tokEvents, events, none, pass(policy.TokenValid, tokEvents)},
		{"revoked, not enforced", app, tokRevoked, events, none, pass(policy.TokenRevoked, tokRevoked)},
		{"GDPR enforced", app, tokEvents, gdpr, none, accept(policy.TokenValid, tokEvents)},
		{"scope 63 not enforced", app, noToken, future, none, pass(policy.TokenMissing, "")},
		{
			"B14 GDPR is not enforced by the others", newPolicy(t, enforce(events, sessions, revenue), minted()...),
			noToken, gdpr, none, pass(policy.TokenMissing, ""),
		},
	} {
		tt.check(t)
	}
}

func TestB18_GoogleTagManager(t *testing.T) {
	on := newPolicy(t, enforce(events, gdpr), withImported()...)
	off := newPolicy(t, enforce(), withImported()...)
	unsupported := policy.SourceNotSupported
	// Denied although the scope is not enforced: the exception in B13.
	denyOff := policy.Decision{Allow: false, Enforced: false, Reason: unsupported}
	for _, tt := range []row{
		{"no token, enforced", on, noToken, events, gtm, deny(unsupported, "")},
		{"no token, not enforced", on, noToken, sessions, gtm, pass(unsupported, "")},
		{"no token, off", off, noToken, events, gtm, pass(unsupported, "")},
		{"no token, GDPR enforced", on, noToken, gdpr, gtm, deny(unsupported, "")},
		{"no token, GDPR not enforced", off, noToken, gdpr, gtm, pass(unsupported, "")},
		{"valid token, enforced", on, tokEvents, events, gtm, deny(unsupported, "")},
		{"valid token, not enforced", on, tokEventsSessions, sessions, gtm, denyOff},
		{"valid token, off", off, tokEvents, events, gtm, denyOff},
		{"unscoped token, off", off, tokUnscoped, events, gtm, denyOff},
		{"mistyped token, off", off, mistyped, events, gtm, denyOff},
		{"over-long token, off", off, beyondLimit, events, gtm, denyOff},
		{"another app's token, off", off, otherApp, events, gtm, denyOff},
		{"revoked token, off", off, tokRevoked, events, gtm, denyOff},
		{"revoked token, enforced", on, tokRevoked, events, gtm, deny(unsupported, "")},
	} {
		tt.check(t)
	}
	for _, unknown := range []policy.Source{-1, 0, 2, 257, 1 << 16, -1 << 31, 1<<31 - 1} {
		for _, tt := range []row{
			{"unknown source, valid token", on, tokEvents, events, unknown, accept(policy.TokenValid, tokEvents)},
			{"unknown source, no token", on, noToken, events, unknown, deny(policy.TokenMissing, "")},
			{"unknown source, valid token, off", off, tokEvents, events, unknown, pass(policy.TokenValid, tokEvents)},
		} {
			tt.check(t)
		}
	}
}

// TestB19_AppWithoutPolicyComesFirst: an app without a policy, or a deleted one, enforces nothing, whatever
// else holds.
func TestB19_AppWithoutPolicyComesFirst(t *testing.T) {
	apps := map[string]*policy.Policy{
		"no policy":        nil,
		"deleted":          deletedPolicy(t, enforce(), withImported()...),
		"deleted enforced": deletedPolicy(t, enforce(events, sessions, revenue, gdpr, future), withImported()...),
	}
	for name, app := range apps {
		for tokenName := range texts {
			for _, scope := range []policy.Scope{events, gdpr, future} {
				for _, source := range []policy.Source{none, gtm, 99} {
					row{name, app, tokenName, scope, source, pass(policy.AppNotConfigured, "")}.check(t)
				}
			}
		}
	}
}

// TestB19_AppWithoutTokensIsConfigured: an empty policy is a policy.
func TestB19_AppWithoutTokensIsConfigured(t *testing.T) {
	row{"empty policy", newPolicy(t, enforce()), noToken, events, none, pass(policy.TokenMissing, "")}.check(t)
	row{"empty policy", newPolicy(t, enforce()), noToken, events, gtm, pass(policy.SourceNotSupported, "")}.check(t)
}
