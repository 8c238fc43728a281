package rules_test

import (
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/services/authority/internal/rules"
)

// TestB06_Retention: the next change drops the tokens that lists no longer show. Of revoked ones the digests
// are remembered, so that they never work again (B08).
func TestB06_Retention(t *testing.T) {
	const keep = 30 * day
	old := func(t record.Token, ago time.Duration) record.Token {
		t.Note, t.PredecessorID, t.SuccessorID = "note", "older", "newer"
		if t.State == policy.Revoked {
			t.RevokeMillis = millis(-ago)
		} else {
			t.ExpireMillis = millis(-ago)
		}
		return t
	}
	for _, tt := range []struct {
		name  string
		token record.Token
		want  func(*record.Token) // nil: gone
		// remembered says that the digest is remembered once the token is dropped.
		remembered bool
	}{
		{"expired for 30 days", old(token("t", events), keep), func(*record.Token) {}, false},
		{"expired for longer", old(token("t", events), keep+time.Millisecond), nil, false},
		{"disabled, its expiry came long ago", old(disabled(token("t", events)), 400*day), func(*record.Token) {}, false},
		{"revoked for 30 days", old(revoked(token("t", events)), keep), func(*record.Token) {}, false},
		{"revoked for longer", old(revoked(token("t", events)), keep+time.Millisecond), nil, true},
		{"revoked for years", old(revoked(token("t", events)), 4000*day), nil, true},
		{"revoked, expired long ago", with(old(revoked(token("t", events)), day),
			func(t *record.Token) { t.ExpireMillis = millis(-400 * day) }), func(*record.Token) {}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := document(0, token("a", events), tt.token, token("z", events))
			calls := map[string]func(*record.Document) (*record.Document, error){
				"create": create(fresh("new")),
				"update": apply(update("a", func(u *rules.Update) { u.Note = ptr("x") })),
				"revoke": revoke(false, "a"), "rotate": rotate("a", 0), "enforce": enforce(set(events)), "delete": deleteApp,
			}
			for name, call := range calls {
				after := mustChange(t, before, call)
				if name == "delete" {
					// Deleting revokes every token.
					continue
				}
				gone := digest("t")
				if got := after.Memory.Has(&gone); got != tt.remembered {
					t.Errorf("%s: remembered: %t, want %t", name, got, tt.remembered)
				}
				var got *record.Token
				for i := range after.Tokens {
					if after.Tokens[i].ID == "t" {
						got = &after.Tokens[i]
					}
				}
				switch {
				case tt.want == nil && got != nil:
					t.Errorf("%s: %+v is still there", name, *got)
				case tt.want != nil && got == nil:
					t.Errorf("%s: it is gone", name)
				case tt.want != nil && *got != with(tt.token, tt.want):
					t.Errorf("%s: got %+v, want %+v", name, *got, with(tt.token, tt.want))
				}
			}
		})
	}
}

// TestB08_DeletedTokensAreRemembered: the deletion of an app drops expired tokens that lists no longer show,
// and no digest that was ever revoked.
func TestB08_DeletedTokensAreRemembered(t *testing.T) {
	before := document(0, token("a"), expiring(token("long ago"), -400*day),
		with(revoked(token("b")), func(t *record.Token) { t.RevokeMillis = millis(-400 * day) }))
	after := mustChange(t, before, deleteApp)
	if got := find(t, after, "a"); got.State != policy.Revoked || got.Digest != digest("a") {
		t.Errorf("a became %+v", got)
	}
	for _, id := range []string{"a", "b"} {
		if !revokes(t, after, digest(id)) {
			t.Errorf("the digest of %s is forgotten", id)
		}
	}
}
