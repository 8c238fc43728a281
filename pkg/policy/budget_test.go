package policy_test

import (
	"testing"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/secret"
)

// TestDecideDoesNotAllocate for any reason: the decision is made once per request of the ingest tier.
func TestDecideDoesNotAllocate(t *testing.T) {
	on, imported := newPolicy(t, enforce(events), minted()...), newPolicy(t, enforce(events), withImported()...)
	seen := map[policy.Reason]bool{}
	for _, tt := range []struct {
		name   string
		app    *policy.Policy
		token  string
		source policy.Source
		want   policy.Reason
	}{
		{"no policy", nil, tokEvents, none, policy.AppNotConfigured},
		{"valid", on, tokEvents, none, policy.TokenValid},
		{"valid, unscoped", on, tokUnscoped, none, policy.TokenValidUnscoped},
		{"valid, imported", imported, tokImported, none, policy.TokenValid},
		{"missing", on, noToken, none, policy.TokenMissing},
		{"malformed", on, mistyped, none, policy.TokenMalformed},
		{"malformed, long", on, atLimit, none, policy.TokenMalformed},
		{"malformed, over-long", imported, beyondLimit, none, policy.TokenMalformed},
		{"unknown", on, otherApp, none, policy.TokenUnknown},
		{"unknown, foreign", imported, foreign, none, policy.TokenUnknown},
		{"revoked", on, tokRevoked, none, policy.TokenRevoked},
		{"disabled", on, tokDisabled, none, policy.TokenDisabled},
		{"expired", on, tokExpired, none, policy.TokenExpired},
		{"other scope", on, tokFuture, none, policy.ScopeNotGranted},
		{"Google Tag Manager", on, tokEvents, gtm, policy.SourceNotSupported},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var d policy.Decision
			request := policy.Request{Token: secret.New(texts[tt.token]), Scope: events, Source: tt.source, NowMillis: now}
			if n := testing.AllocsPerRun(100, func() { d = policy.Decide(tt.app, request) }); n != 0 {
				t.Errorf("%v allocations, want none", n)
			}
			if d.Reason != tt.want {
				t.Errorf("reason %d, want %d", d.Reason, tt.want)
			}
			seen[d.Reason] = true
		})
	}
	for name, reason := range reasons {
		if !seen[reason] {
			t.Errorf("%s was not tried", name)
		}
	}
}

// BenchmarkDecide decides for an app with as many tokens as B01 allows.
func BenchmarkDecide(b *testing.B) {
	tokens := minted()
	for i := len(tokens); i < 1000; i++ {
		text := secret.Mint().Reveal()
		tokens = append(tokens, policy.Token{ID: text, Digest: secret.DigestOf(text), State: policy.Active})
	}
	app := newPolicy(b, enforce(events), tokens...)
	for _, bb := range []struct{ name, token string }{
		{"valid", tokEvents}, {"unknown", otherApp}, {"malformed", mistyped}, {"missing", noToken},
	} {
		b.Run(bb.name, func(b *testing.B) {
			request := policy.Request{Token: secret.New(texts[bb.token]), Scope: events, NowMillis: now}
			b.ReportAllocs()
			for b.Loop() {
				policy.Decide(app, request)
			}
		})
	}
}
