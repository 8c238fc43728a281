package rules_test

import (
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/services/authority/internal/rules"
)

// rotate makes tok_next the successor of a token.
func rotate(id string, overlap time.Duration) func(*record.Document) (*record.Document, error) {
	return func(d *record.Document) (*record.Document, error) {
		return rules.Rotate(d, by, id, overlap, "tok_next", secret.Mint())
	}
}

func TestB09_Successor(t *testing.T) {
	minted := secret.Mint()
	old := with(token("a", events, sessions), func(t *record.Token) {
		t.Note, t.Imported, t.ExpireMillis = "note", true, millis(30*day)
	})
	before := document(set(events), old)
	after := must(t, before, func(d *record.Document) (*record.Document, error) {
		return rules.Rotate(d, by, "a", time.Hour, "tok_next", minted)
	})
	wantOld := with(old, func(t *record.Token) {
		t.ExpireMillis, t.SuccessorID, t.UpdateMillis = millis(time.Hour), "tok_next", millis(0)
	})
	wantNext := record.Token{
		Token: policy.Token{
			ID: "tok_next", Digest: minted.Digest(), Scopes: set(events, sessions), State: policy.Active, ExpireMillis: millis(30 * day),
		},
		Name: "a", Note: "note", Hint: minted.Hint(), CreatedBy: "ada", CreateMillis: millis(0), UpdateMillis: millis(0),
		PredecessorID: "a",
	}
	if len(after.Tokens) != 2 || after.Tokens[0] != wantOld || after.Tokens[1] != wantNext {
		t.Errorf("got %+v\nwant %+v\n and %+v", after.Tokens, wantOld, wantNext)
	}
}

func TestB09_Overlap(t *testing.T) {
	if rules.DefaultOverlap != 7*day || rules.MaxOverlap != 90*day {
		t.Errorf("overlap is %v by default and at most %v", rules.DefaultOverlap, rules.MaxOverlap)
	}
	for _, tt := range []struct {
		name    string
		own     time.Duration // the token's own expiry; 0 is none
		overlap time.Duration
		want    time.Duration
	}{
		{"none", 0, 0, 0},
		{"default", 0, 7 * day, 7 * day},
		{"longest", 0, 90 * day, 90 * day},
		{"own expiry is later", 8 * day, 7 * day, 7 * day},
		{"own expiry is the same", 7 * day, 7 * day, 7 * day},
		{"own expiry is sooner", day, 7 * day, day},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := token("a", events)
			if tt.own != 0 {
				a = expiring(a, tt.own)
			}
			after := must(t, document(set(events), a), rotate("a", tt.overlap))
			if got := find(t, after, "a").ExpireMillis; got != millis(tt.want) {
				t.Errorf("the old token ends at %d, want %d", got, millis(tt.want))
			}
			if got := find(t, after, "tok_next").ExpireMillis; got != a.ExpireMillis {
				t.Errorf("the successor ends at %d, want %d", got, a.ExpireMillis)
			}
		})
	}
}

func TestB09_OldTokenEndsToTheMillisecond(t *testing.T) {
	after := must(t, document(set(events), token("a", events)), rotate("a", time.Hour))
	if got := stateAt(t, after, "a", time.Hour-time.Millisecond); got != policy.Active {
		t.Errorf("just before the overlap ends the old token is %d", got)
	}
	if got := stateAt(t, after, "a", time.Hour); got != policy.Expired {
		t.Errorf("when the overlap ends the old token is %d", got)
	}
	if got := stateAt(t, after, "tok_next", time.Hour); got != policy.Active {
		t.Errorf("when the overlap ends the successor is %d", got)
	}
}

func TestB09_RotationIsRefused(t *testing.T) {
	succeeded := with(token("a", events), func(t *record.Token) { t.SuccessorID = "b" })
	successor := with(token("b", events), func(t *record.Token) { t.PredecessorID, t.Name = "a", "a" })
	for _, tt := range []struct {
		name   string
		tokens []record.Token
		want   failure
	}{
		{"disabled", []record.Token{disabled(token("a"))}, notActive},
		{"expired", []record.Token{expiring(token("a"), 0)}, notActive},
		{"revoked", []record.Token{revoked(token("a"))}, notActive},
		{"about to expire", []record.Token{expiring(token("a"), time.Millisecond)}, fine},
		{"successor is active", []record.Token{succeeded, successor}, hasSuccessor},
		{"successor is disabled", []record.Token{succeeded, disabled(successor)}, hasSuccessor},
		{"successor is revoked", []record.Token{succeeded, revoked(successor)}, fine},
		{"successor has expired", []record.Token{succeeded, expiring(successor, 0)}, fine},
		{"successor is forgotten", []record.Token{succeeded}, fine},
	} {
		t.Run(tt.name, func(t *testing.T) {
			after, err := pure(t, document(0, tt.tokens...), rotate("a", time.Hour))
			wantFailure(t, err, tt.want)
			if err == nil && find(t, after, "a").SuccessorID != "tok_next" {
				t.Errorf("the old token names %q as its successor", find(t, after, "a").SuccessorID)
			}
		})
	}
}

// TestB09_Chain: the successor can be rotated in its turn, while the first overlap lasts.
func TestB09_Chain(t *testing.T) {
	first := must(t, document(set(events), token("a", events)), rotate("a", 7*day))
	second := must(t, first, func(d *record.Document) (*record.Document, error) {
		return rules.Rotate(d, later(time.Hour), "tok_next", 0, "tok_third", secret.Mint())
	})
	a, b, c := find(t, second, "a"), find(t, second, "tok_next"), find(t, second, "tok_third")
	if a.SuccessorID != b.ID || b.PredecessorID != a.ID || b.SuccessorID != c.ID || c.PredecessorID != b.ID || c.SuccessorID != "" {
		t.Errorf("the chain is broken: %+v", second.Tokens)
	}
	if b.StateAt(millis(time.Hour)) != policy.Expired || a.StateAt(millis(time.Hour)) != policy.Active || c.StateAt(millis(time.Hour)) != policy.Active {
		t.Errorf("states: %+v", second.Tokens)
	}
	if a.Name != "a" || b.Name != "a" || c.Name != "a" {
		t.Errorf("names: %+v", second.Tokens)
	}
}

// TestB16_RotatingNeverLocksOut, not even without overlap.
func TestB16_RotatingNeverLocksOut(t *testing.T) {
	for name, a := range map[string]record.Token{
		"scoped": token("a", events), "unscoped": token("a"), "with an expiry": expiring(token("a", events), day),
	} {
		t.Run(name, func(t *testing.T) {
			after := must(t, document(set(events, gdpr), a), rotate("a", 0))
			p, err := after.Policy()
			if err != nil {
				t.Fatal(err)
			}
			if bare := p.Uncovered(set(events, gdpr), millis(0)); bare != 0 {
				t.Errorf("left bare: %b", bare)
			}
		})
	}
}
