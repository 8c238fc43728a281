package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/secret"
)

// TestB02_RequestHidesItsToken however it is formatted.
func TestB02_RequestHidesItsToken(t *testing.T) {
	r := policy.Request{Token: secret.New(texts[tokEvents]), Scope: events}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		if out := fmt.Sprintf(format, r); strings.Contains(out, texts[tokEvents][3:]) {
			t.Errorf("%s shows the token: %s", format, out)
		}
	}
}

// TestB11_LongImportedTokensDoNotAllocate completes TestDecideDoesNotAllocate.
func TestB11_LongImportedTokensDoNotAllocate(t *testing.T) {
	app := newPolicy(t, enforce(events), withImported()...)
	for _, name := range []string{tokImportedLong, atLimit} {
		r := policy.Request{Token: secret.New(texts[name]), Scope: events, NowMillis: now}
		if n := testing.AllocsPerRun(100, func() { policy.Decide(app, r) }); n != 0 {
			t.Errorf("%s: %v allocations, want none", name, n)
		}
	}
}

// TestBitZeroIsNoScope: bit 0 of a ScopeSet, which may come from a stored document, stands for no scope.
func TestBitZeroIsNoScope(t *testing.T) {
	p := newPolicy(t, enforce())
	if got := p.Uncovered(policy.ScopeSet(1), now); got != 0 {
		t.Errorf("Uncovered = %b", got)
	}
}
