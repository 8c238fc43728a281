package policy_test

import (
	"strings"
	"testing"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/secret"
)

func TestNewRefusesWhatCannotBeMeant(t *testing.T) {
	valid := func() policy.Token { return token(tokEvents, policy.Active, 0, events) }
	tests := []struct {
		name   string
		change func(first, second *policy.Token)
		words  string
	}{
		{"two different tokens", func(_, _ *policy.Token) {}, ""},
		{"one id twice", func(first, second *policy.Token) { second.ID = first.ID }, "not unique"},
		{"one digest twice", func(first, second *policy.Token) { second.Digest = first.Digest }, "digest"},
		{"one digest twice, one of them revoked", func(first, second *policy.Token) {
			first.Digest, first.State = second.Digest, policy.Revoked
		}, "digest"},
		{"empty id", func(first, _ *policy.Token) { first.ID = "" }, "empty"},
		{"no state", func(_, second *policy.Token) { second.State = 0 }, "state 0"},
		{"B08 EXPIRED is never stored", func(_, second *policy.Token) { second.State = policy.Expired }, "state 4"},
		{"unknown state", func(first, _ *policy.Token) { first.State = 200 }, "state 200"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			first, second := valid(), token(tokUnscoped, policy.Disabled, now)
			tt.change(&first, &second)
			for _, deleted := range []bool{false, true} {
				p, err := policy.New(enforce(), []policy.Token{first, second}, deleted)
				if tt.words == "" {
					if err != nil {
						t.Errorf("New = %v, want a policy", err)
					}
					continue
				}
				if err == nil || p != nil || !strings.Contains(err.Error(), tt.words) {
					t.Errorf("New = %v, %v, want no policy and an error with %q", p, err, tt.words)
				}
			}
		})
	}
}

func TestPolicyHoldsWhatItWasMadeOf(t *testing.T) {
	tokens := withImported()
	e := trial([]policy.Scope{events}, sessions)
	p := deletedPolicy(t, e, tokens...)
	if p.Enforcement() != e {
		t.Errorf("Enforcement = %+v, want %+v", p.Enforcement(), e)
	}
	if !p.Deleted() || newPolicy(t, e).Deleted() {
		t.Error("Deleted does not tell the two apart")
	}
	if len(p.Tokens()) != len(tokens) {
		t.Fatalf("Tokens has %d, want %d", len(p.Tokens()), len(tokens))
	}
	for i, want := range tokens {
		if p.Tokens()[i] != want {
			t.Errorf("token %d = %+v, want %+v: the order is that of creation", i, p.Tokens()[i], want)
		}
		if found := p.FindDigest(want.Digest); found == nil || *found != want {
			t.Errorf("FindDigest of %s = %+v", want.ID, found)
		}
	}
	if found := p.FindDigest(secret.DigestOf(texts[otherApp])); found != nil {
		t.Errorf("FindDigest of another app's token = %+v, want none", found)
	}
}

// TestUncovered: B12 and B16 need the scopes that no ACTIVE token authenticates.
func TestUncovered(t *testing.T) {
	asked := policy.ScopesOf(events, sessions, gdpr, future)
	tests := []struct {
		name   string
		tokens []policy.Token
		want   policy.ScopeSet
	}{
		{"B12 no token", nil, asked},
		{
			"B12 a token for one scope",
			[]policy.Token{token(tokEvents, policy.Active, 0, events)},
			policy.ScopesOf(sessions, future),
		},
		{"B12 two tokens for two scopes", []policy.Token{
			token(tokEvents, policy.Active, 0, events), token(tokFuture, policy.Active, 0, future),
		}, policy.ScopesOf(sessions)},
		{"B05 an unscoped token covers all", []policy.Token{token(tokUnscoped, policy.Active, 0)}, 0},
		{
			"B14 any active token covers GDPR alone",
			[]policy.Token{token(tokEvents, policy.Active, 0, revenue)},
			policy.ScopesOf(events, sessions, future),
		},
		{"B16 disabled", []policy.Token{token(tokDisabled, policy.Disabled, 0)}, asked},
		{"B16 revoked", []policy.Token{token(tokRevoked, policy.Revoked, 0)}, asked},
		{"B16 expired", []policy.Token{token(tokExpired, policy.Active, now)}, asked},
		{"B16 expires the next millisecond", []policy.Token{token(tokExpiring, policy.Active, now+1)}, 0},
		{"B16 a bad one and a good one", []policy.Token{
			token(tokRevoked, policy.Revoked, 0), token(tokUnscoped, policy.Active, 0), token(tokDisabled, policy.Disabled, 0),
		}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newPolicy(t, enforce(), tt.tokens...)
			if got := p.Uncovered(asked, now); got != tt.want {
				t.Errorf("Uncovered = %b, want %b", got, tt.want)
			}
			if got := p.Uncovered(0, now); got != 0 {
				t.Errorf("Uncovered of nothing = %b", got)
			}
		})
	}
}
