package policy_test

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/secret"
)

// gone returns a revoked token with a given secret.
func gone(text string) policy.Token {
	return policy.Token{ID: "tok_" + text, Digest: secret.DigestOf(text), State: policy.Revoked}
}

// TestB08_RememberedDigestsAreRevoked: a remembered token that is no longer listed gives TOKEN_REVOKED,
// without an id. A listed token is found first.
func TestB08_RememberedDigestsAreRevoked(t *testing.T) {
	minted, other := secret.Mint(), secret.Mint()
	active := policy.Token{ID: "tok_active", Digest: secret.DigestOf("legacy secret"), State: policy.Active, Imported: true}
	shares := active // another digest with the same first 64 bits, which never happens in practice
	shares.Digest[31] ^= 1
	for _, tt := range []struct {
		name   string
		memory policy.Memory
		tokens []policy.Token
		text   string
		reason policy.Reason
		id     string
	}{
		{"remembered", policy.Memory{}.With(gone(minted.Reveal())), nil, minted.Reveal(), policy.TokenRevoked, ""},
		{"another one", policy.Memory{}.With(gone(minted.Reveal())), nil, other.Reveal(), policy.TokenUnknown, ""},
		{"nothing is", policy.Memory{}, nil, minted.Reveal(), policy.TokenUnknown, ""},
		{
			"beside a token", policy.Memory{}.With(gone(minted.Reveal())),
			[]policy.Token{active},
			minted.Reveal(),
			policy.TokenRevoked, "",
		},
		{
			"its prefix is remembered", policy.Memory{}.With(shares),
			[]policy.Token{active},
			"legacy secret",
			policy.TokenValidUnscoped, active.ID,
		},
		{
			"an imported one, of any form", policy.Memory{}.With(policy.Token{
				Digest:   secret.DigestOf("old, foreign"),
				Imported: true,
			}), nil,
			"old, foreign", policy.TokenRevoked, "",
		},
		{
			"a minted one lets no other form in", policy.Memory{}.With(gone(minted.Reveal())), nil, "old, foreign",
			policy.TokenMalformed, "",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := policy.NewWithMemory(policy.Enforcement{Scopes: policy.ScopesOf(events)}, tt.tokens, false, tt.memory)
			if err != nil {
				t.Fatal(err)
			}
			same := policy.Unpack(p.Packed())
			d := policy.Decide(&same, policy.Request{Token: secret.New(tt.text), Scope: events, NowMillis: now})
			if d.Reason != tt.reason || d.TokenID != tt.id || d.Allow != (tt.reason == policy.TokenValidUnscoped) {
				t.Errorf("got %+v, want reason %d of %q", d, tt.reason, tt.id)
			}
			if same.Memory() != tt.memory || !slices.Equal(same.Tokens(), append([]policy.Token{}, tt.tokens...)) {
				t.Errorf("unpacked are %v and %v", same.Memory(), same.Tokens())
			}
		})
	}
}

// TestMemoryIsASet: With, Union and Without work as on sets, and Bytes gives the bytes back.
func TestMemoryIsASet(t *testing.T) {
	texts := rapid.SliceOf(rapid.StringMatching(`[a-p]`))
	rapid.Check(t, func(t *rapid.T) {
		one, two := texts.Draw(t, "one"), texts.Draw(t, "two")
		of := func(texts []string) (m policy.Memory) {
			for _, text := range texts {
				m = m.With(gone(text))
			}
			return m
		}
		a, b := of(one), of(two)
		both, left := a.Union(b), a.Without(b)
		for _, text := range "abcdefghijklmnop" {
			d := secret.DigestOf(string(text))
			inA, inB := slices.Contains(one, string(text)), slices.Contains(two, string(text))
			if a.Has(&d) != inA || both.Has(&d) != (inA || inB) || left.Has(&d) != (inA && !inB) {
				t.Fatalf("%q: %t %t %t", text, a.Has(&d), both.Has(&d), left.Has(&d))
			}
		}
		if both != b.Union(a) || left.Union(b) != both || left.Len() > a.Len() {
			t.Fatalf("%x %x: union %x, without %x", a.Bytes(), b.Bytes(), both.Bytes(), left.Bytes())
		}
		again, err := policy.MemoryOf(bytes.Clone(both.Bytes()), false)
		if err != nil || again != both || slices.Collect(both.Tokens()) == nil != (both.Len() == 0) {
			t.Fatalf("came back as %v, %v", again, err)
		}
	})
}

func TestMemoryIsWellFormed(t *testing.T) {
	for name, raw := range map[string][]byte{
		"cut off": make([]byte, 7), "twice": make([]byte, 16),
		"descending": append(bytes.Repeat([]byte{1}, 8), make([]byte, 8)...),
		"too many":   make([]byte, 8*(policy.MaxMemory+1)),
	} {
		if _, err := policy.MemoryOf(raw, false); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

// TestB08_WithRevokedKeepsRememberedDigests: WithRevoked also takes remembered digests.
func TestB08_WithRevokedKeepsRememberedDigests(t *testing.T) {
	held := slices.Collect(policy.Memory{}.With(gone("a"), gone("b")).Tokens())
	back := gone("a")
	back.State = policy.Active
	p, err := policy.New(policy.Enforcement{}, []policy.Token{back}, false)
	if err != nil {
		t.Fatal(err)
	}
	for i := range held {
		if p.Revokes(&held[i]) {
			t.Errorf("%x is revoked already", held[i].Digest)
		}
	}
	if p, err = p.WithRevoked(held); err != nil {
		t.Fatal(err)
	}
	for i := range held {
		if !p.Revokes(&held[i]) {
			t.Errorf("%x is not revoked", held[i].Digest)
		}
	}
	b := secret.DigestOf("b")
	if got := p.FindDigest(back.Digest); got == nil || got.State != policy.Revoked || p.Len() != 1 || !p.Memory().Has(&b) {
		t.Errorf("%+v and %d others, %d remembered", got, p.Len()-1, p.Memory().Len())
	}
}

// TestRememberingCostsNothingWithout: a policy without remembered digests has no extra bytes, and each digest
// takes 8.
func TestRememberingCostsNothingWithout(t *testing.T) {
	size := func(n int) int {
		var m policy.Memory
		for i := range n {
			m = m.With(gone(string(rune('a' + i))))
		}
		p, err := policy.NewWithMemory(policy.Enforcement{}, []policy.Token{gone("z")}, false, m)
		if err != nil {
			t.Fatal(err)
		}
		return len(p.Packed())
	}
	if got := size(5) - size(0); got != 5*policy.MemorySize {
		t.Errorf("5 digests take %d bytes", got)
	}
}

// BenchmarkDecideRemembered looks for an unknown token in an app that remembers a million digests.
func BenchmarkDecideRemembered(b *testing.B) {
	tokens := make([]policy.Token, 1_000_000)
	for i := range tokens {
		for j := range tokens[i].Digest {
			tokens[i].Digest[j] = byte(rand.Uint32())
		}
	}
	p, err := policy.NewWithMemory(policy.Enforcement{}, nil, false, policy.Memory{}.With(tokens...))
	if err != nil {
		b.Fatal(err)
	}
	request := policy.Request{Token: secret.Mint(), Scope: events, NowMillis: now}
	b.ReportAllocs()
	for b.Loop() {
		policy.Decide(p, request)
	}
}
