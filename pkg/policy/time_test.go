package policy_test

import (
	"math"
	"testing"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/secret"
)

// TestB17_TrialEndsToTheMillisecond without another change, in each direction in which a trial can change
// enforcement.
func TestB17_TrialEndsToTheMillisecond(t *testing.T) {
	tests := []struct {
		name                  string
		trial                 policy.Enforcement
		scope                 policy.Scope
		enforcedBefore, after bool
	}{
		{"from off", trial([]policy.Scope{events}), events, true, false},
		{"from off, other scope", trial([]policy.Scope{events}), sessions, false, false},
		{"widened", trial([]policy.Scope{events, sessions}, events), sessions, true, false},
		{"widened, the scope it was before", trial([]policy.Scope{events, sessions}, events), events, true, true},
		{"narrowed", trial([]policy.Scope{events}, events, sessions), sessions, false, true},
		{"replaced, old", trial([]policy.Scope{sessions}, events), events, false, true},
		{"replaced, new", trial([]policy.Scope{sessions}, events), sessions, true, false},
		{"switched off", trial(nil, events), events, false, true},
		{"GDPR", trial([]policy.Scope{gdpr}), gdpr, true, false},
		{"scope 63", trial([]policy.Scope{future}), future, true, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			app := newPolicy(t, tt.trial, minted()...)
			for _, moment := range []struct {
				millis   int64
				enforced bool
			}{
				{math.MinInt64, tt.enforcedBefore},
				{0, tt.enforcedBefore},
				{now - 1, tt.enforcedBefore},
				{now, tt.after},
				{now + 1, tt.after},
				{math.MaxInt64, tt.after},
			} {
				request := policy.Request{Scope: tt.scope, NowMillis: moment.millis}
				want := policy.Decision{
					Allow: !moment.enforced, Enforced: moment.enforced, Reason: policy.TokenMissing,
				}
				if got := policy.Decide(app, request); got != want {
					t.Errorf("without a token at %d: got %+v, want %+v", moment.millis-now, got, want)
				}
				request.Source = gtm
				want.Reason = policy.SourceNotSupported
				if got := policy.Decide(app, request); got != want {
					t.Errorf("B18 at %d: got %+v, want %+v", moment.millis-now, got, want)
				}
				if got := tt.trial.At(moment.millis).Has(tt.scope); got != moment.enforced {
					t.Errorf("Enforcement.At(%d) has the scope: %v, want %v", moment.millis-now, got, moment.enforced)
				}
			}
		})
	}
}

// trial is an enforcement that ends now.
func trial(scopes []policy.Scope, after ...policy.Scope) policy.Enforcement {
	return policy.Enforcement{
		Scopes: policy.ScopesOf(scopes...), TrialEndMillis: now, After: policy.ScopesOf(after...),
	}
}

func TestB17_WithoutATrialNothingChangesByItself(t *testing.T) {
	e := policy.Enforcement{Scopes: policy.ScopesOf(events), After: policy.ScopesOf(sessions)}
	for _, millis := range []int64{math.MinInt64, 0, now, math.MaxInt64} {
		if got := e.At(millis); got != policy.ScopesOf(events) {
			t.Errorf("At(%d) = %b, want the scopes", millis, got)
		}
		if got := e.Ever(millis); got != policy.ScopesOf(events) {
			t.Errorf("Ever(%d) = %b, want the scopes", millis, got)
		}
	}
}

func TestB17_Ever(t *testing.T) {
	e := trial([]policy.Scope{events, sessions}, sessions, revenue)
	for _, tt := range []struct {
		name   string
		millis int64
		want   policy.ScopeSet
	}{
		{"before its end, what is and what comes", now - 1, policy.ScopesOf(events, sessions, revenue)},
		{"at its end, what came", now, policy.ScopesOf(sessions, revenue)},
		{"after its end, what came", now + 1, policy.ScopesOf(sessions, revenue)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := e.Ever(tt.millis); got != tt.want {
				t.Errorf("Ever = %b, want %b", got, tt.want)
			}
		})
	}
}

func TestB08_StateAt(t *testing.T) {
	for _, tt := range []struct {
		name   string
		state  policy.State
		expire int64
		at     int64
		want   policy.State
	}{
		{"active for ever", policy.Active, 0, math.MaxInt64, policy.Active},
		{"active, a millisecond before expiry", policy.Active, now, now - 1, policy.Active},
		{"active, at expiry", policy.Active, now, now, policy.Expired},
		{"active, after expiry", policy.Active, now, now + 1, policy.Expired},
		{"active, expiry before 1970", policy.Active, -1, 0, policy.Expired},
		{"active, clock before 1970", policy.Active, now, math.MinInt64, policy.Active},
		{"disabled, at expiry", policy.Disabled, now, now, policy.Disabled},
		{"disabled", policy.Disabled, 0, now, policy.Disabled},
		{"revoked, at expiry", policy.Revoked, now, now, policy.Revoked},
		{"revoked", policy.Revoked, 0, now, policy.Revoked},
	} {
		t.Run(tt.name, func(t *testing.T) {
			token := policy.Token{State: tt.state, ExpireMillis: tt.expire}
			if got := token.StateAt(tt.at); got != tt.want {
				t.Errorf("StateAt = %d, want %d", got, tt.want)
			}
			// B08: only ACTIVE tokens authenticate. This token is unscoped, so only its state matters.
			if got, want := token.Authenticates(events, tt.at), tt.want == policy.Active; got != want {
				t.Errorf("Authenticates = %v, want %v", got, want)
			}
		})
	}
}

// TestB08_ExpiryBoundary follows one token through its expiry by Decide.
func TestB08_ExpiryBoundary(t *testing.T) {
	app := newPolicy(t, enforce(events), token(tokEvents, policy.Active, now, events))
	for offset, want := range map[int64]policy.Decision{
		-1: accept(policy.TokenValid, tokEvents),
		0:  deny(policy.TokenExpired, tokEvents),
		1:  deny(policy.TokenExpired, tokEvents),
	} {
		got := policy.Decide(app, policy.Request{Token: secret.New(texts[tokEvents]), Scope: events, NowMillis: now + offset})
		if got != want {
			t.Errorf("%d ms from expiry: got %+v, want %+v", offset, got, want)
		}
	}
}

// TestB15_BeyondIsWhatIsEnforcedInAddition compares Beyond with the two enforcements at every millisecond at
// which they can differ: for all sets of two scopes, and ends before, at and after the given time.
func TestB15_BeyondIsWhatIsEnforcedInAddition(t *testing.T) {
	sets := []policy.ScopeSet{0, policy.ScopesOf(events), policy.ScopesOf(sessions), policy.ScopesOf(events, sessions)}
	var all []policy.Enforcement
	for _, scopes := range sets {
		for _, after := range sets {
			for _, end := range []int64{0, now - 1, now, now + 1, now + 3} {
				all = append(all, policy.Enforcement{Scopes: scopes, TrialEndMillis: end, After: after})
			}
		}
	}
	for _, e := range all {
		for _, other := range all {
			var want policy.ScopeSet
			for at := now; at < now+5; at++ {
				want |= e.At(at).Without(other.At(at))
			}
			if got := e.Beyond(other, now); got != want {
				t.Errorf("%+v beyond %+v: got %b, want %b", e, other, got, want)
			}
		}
	}
}
