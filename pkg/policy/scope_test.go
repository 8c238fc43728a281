package policy_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/countersign/countersign/pkg/policy"
)

// TestScopeSetIsASet compares a ScopeSet with a map.
func TestScopeSetIsASet(t *testing.T) {
	scopes := rapid.SliceOf(rapid.Map(rapid.IntRange(1, 63), func(n int) policy.Scope { return policy.Scope(n) }))
	rapid.Check(t, func(t *rapid.T) {
		one, other := scopes.Draw(t, "one"), scopes.Draw(t, "other")
		set, model := policy.ScopesOf(one...), map[policy.Scope]bool{}
		for _, s := range one {
			model[s] = true
		}
		if set.Len() != len(model) {
			t.Fatalf("Len = %d, want %d", set.Len(), len(model))
		}
		if got, want := slices.Collect(set.All()), slices.Sorted(maps.Keys(model)); !slices.Equal(got, want) {
			t.Fatalf("All = %v, want %v", got, want)
		}
		for s := range 256 {
			if got, want := set.Has(policy.Scope(s)), model[policy.Scope(s)]; got != want {
				t.Fatalf("Has(%d) = %v, want %v", s, got, want)
			}
		}
		for s := range set.All() {
			if s != slices.Min(one) {
				t.Fatalf("All starts with %d, want %d", s, slices.Min(one))
			}
			break
		}
		for _, s := range other {
			delete(model, s)
		}
		rest := set.Without(policy.ScopesOf(other...))
		if got, want := slices.Collect(rest.All()), slices.Sorted(maps.Keys(model)); !slices.Equal(got, want) {
			t.Fatalf("Without = %v, want %v", got, want)
		}
	})
}

func TestScopesOfPanicsOnNumbersThatAreNone(t *testing.T) {
	for _, s := range []policy.Scope{0, 64, 65, 255} {
		t.Run(fmt.Sprint(s), func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			policy.ScopesOf(events, s)
		})
	}
}
