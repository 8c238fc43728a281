package policy_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/secret"
)

// B08: a revoked digest is denied whatever the policy says about it, also when no token has it. Nothing else
// changes.
func TestB08_WithRevoked(t *testing.T) {
	token := func(id string, digest byte, state policy.State) policy.Token {
		return policy.Token{ID: id, Digest: secret.Digest{digest}, State: state, Scopes: policy.ScopesOf(events)}
	}
	a, b := token("a", 1, policy.Active), token("b", 2, policy.Disabled)
	for name, tt := range map[string]struct{ has, revoked, want []policy.Token }{
		"nothing": {[]policy.Token{a, b}, nil, []policy.Token{a, b}},
		"the first": {
			[]policy.Token{a, b},
			[]policy.Token{token("a", 1, policy.Active)},
			[]policy.Token{token("a", 1, policy.Revoked), b},
		},
		"the second, under another id": {
			[]policy.Token{a, b},
			[]policy.Token{token("x", 2, policy.Active)},
			[]policy.Token{a, token("b", 2, policy.Revoked)},
		},
		"one that is not there": {[]policy.Token{a}, []policy.Token{b}, []policy.Token{a, token("b", 2, policy.Revoked)}},
		"one whose id is another's by now": {
			[]policy.Token{a, b},
			[]policy.Token{token("a", 3, policy.Active)},
			[]policy.Token{a, b, token("a'", 3, policy.Revoked)},
		},
		"two whose id is another's by now": {
			[]policy.Token{a},
			[]policy.Token{token("a", 3, policy.Active), token("a", 4, policy.Revoked)},
			[]policy.Token{a, token("a'", 3, policy.Revoked), token("a''", 4, policy.Revoked)},
		},
		"of none": {nil, []policy.Token{a}, []policy.Token{token("a", 1, policy.Revoked)}},
	} {
		before := newPolicy(t, enforce(events), tt.has...)
		after, err := before.WithRevoked(tt.revoked)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := after.Tokens(); len(got)+len(tt.want) > 0 && !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: got %+v, want %+v", name, got, tt.want)
		}
		if after.Enforcement() != before.Enforcement() || after.Deleted() {
			t.Errorf("%s: enforced is %+v, deleted %v", name, after.Enforcement(), after.Deleted())
		}
		if got := before.Tokens(); len(got)+len(tt.has) > 0 && !reflect.DeepEqual(got, tt.has) {
			t.Errorf("%s: the policy itself became %+v", name, got)
		}
	}
	if after, err := deletedPolicy(t, policy.Enforcement{}, a).WithRevoked([]policy.Token{a}); err != nil || !after.Deleted() {
		t.Errorf("of a deleted app: %+v, %v", after, err)
	}
}

// A policy may have as many tokens, and ids as long, as fit, and not one more.
func TestBoundsOfPolicies(t *testing.T) {
	most := make([]policy.Token, policy.MaxTokens+1)
	for i := range most {
		most[i] = policy.Token{ID: fmt.Sprintf("tok_%d", i), Digest: digestOf(uint32(i), 1), State: policy.Revoked}
	}
	full, err := policy.New(policy.Enforcement{}, most[:policy.MaxTokens], false)
	if err != nil {
		t.Fatal(err)
	}
	if last := full.FindDigest(most[policy.MaxTokens-1].Digest); full.Len() != policy.MaxTokens || last == nil ||
		last.ID != most[policy.MaxTokens-1].ID {
		t.Errorf("%d tokens, of which the last is %+v", full.Len(), last)
	}
	if _, err := policy.New(policy.Enforcement{}, most, false); err == nil {
		t.Errorf("%d tokens were packed, which cannot be counted", len(most))
	}

	long := policy.Token{ID: strings.Repeat("i", policy.MaxTokenIDLength), Digest: digestOf(1, 1), State: policy.Active}
	if got := newPolicy(t, policy.Enforcement{}, long).FindDigest(long.Digest); got == nil || got.ID != long.ID {
		t.Error("the longest id does not come back")
	}
	long.ID += "i"
	if _, err := policy.New(policy.Enforcement{}, []policy.Token{long}, false); err == nil {
		t.Error("an id was packed that is longer than may be")
	}
}
