package rules_test

import (
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/services/authority/internal/rules"
)

func revoke(allowLockout bool, ids ...string) func(*record.Document) (*record.Document, error) {
	return func(d *record.Document) (*record.Document, error) { return rules.Revoke(d, by, allowLockout, ids...) }
}

func TestB08_Revoke(t *testing.T) {
	for name, a := range map[string]record.Token{
		"active": token("a", events), "disabled": disabled(token("a", events)),
		"expired":  expiring(token("a", events), -time.Hour),
		"unscoped": token("a"), "imported": with(token("a"), func(t *record.Token) { t.Imported = true }),
	} {
		t.Run(name, func(t *testing.T) {
			after := mustChange(t, document(0, a, token("b")), revoke(false, "a"))
			want := with(a, func(t *record.Token) {
				t.State, t.RevokeMillis, t.UpdateMillis = policy.Revoked, millis(0), millis(0)
			})
			if got := find(t, after, "a"); got != want {
				t.Errorf("got %+v\nwant %+v", got, want)
			}
			if find(t, after, "b") != token("b") {
				t.Error("the other token was changed")
			}
		})
	}
}

func TestB08_RevokeTwiceChangesNothing(t *testing.T) {
	before := document(0, revoked(token("a")), revoked(token("b")))
	if after, err := pure(t, before, revoke(false, "a", "b")); after != nil || err != nil {
		t.Errorf("got %+v, %v", after, err)
	}
	before = document(0, revoked(token("a")), token("b"))
	after := mustChange(t, before, revoke(false, "a", "b"))
	if find(t, after, "a") != before.Tokens[0] || find(t, after, "b").State != policy.Revoked {
		t.Errorf("got %+v", after.Tokens)
	}
}

// TestB08_RevokedIsFinal: no call makes a revoked token, or its secret, work again.
func TestB08_RevokedIsFinal(t *testing.T) {
	before := document(0, revoked(token("a", events)), token("b", events))
	changes := map[string]func(*rules.Update){
		"to active":       func(u *rules.Update) { u.State = ptr(policy.Active) },
		"to disabled":     func(u *rules.Update) { u.State = ptr(policy.Disabled) },
		"scopes":          func(u *rules.Update) { u.Scopes = ptr(set(sessions)) },
		"name":            func(u *rules.Update) { u.Name = ptr("x") },
		"note":            func(u *rules.Update) { u.Note = ptr("x") },
		"expiry":          func(u *rules.Update) { u.ExpireMillis = ptr(millis(day)) },
		"nothing":         func(*rules.Update) {},
		"despite lockout": func(u *rules.Update) { u.State, u.AllowLockout = ptr(policy.Active), true },
	}
	for name, change := range changes {
		t.Run("update "+name, func(t *testing.T) {
			_, err := pure(t, before, apply(update("a", change)))
			wantFailure(t, err, tokenRevoked)
		})
	}
	t.Run("rotate", func(t *testing.T) {
		_, err := pure(t, before, rotate("a", time.Hour))
		wantFailure(t, err, notActive)
	})
	t.Run("import", func(t *testing.T) {
		again := fresh("again", events)
		again.Digest, again.Imported = digest("a"), true
		_, err := pure(t, before, create(again))
		wantFailure(t, err, secretTaken)
	})
	t.Run("import in a hundred years", func(t *testing.T) {
		centuryOn := later(36_500 * day)
		after := mustChange(t, before, func(d *record.Document) (*record.Document, error) {
			return rules.Create(d, centuryOn, fresh("new", events))
		})
		again := fresh("again", events)
		again.Digest = digest("a")
		_, err := pure(t, after, func(d *record.Document) (*record.Document, error) { return rules.Create(d, centuryOn, again) })
		wantFailure(t, err, secretTaken)
		if !revokes(t, after, digest("a")) {
			t.Error("the revoked digest is forgotten")
		}
	})
}

func deleteApp(d *record.Document) (*record.Document, error) { return rules.Delete(d, by) }

func TestB28_Delete(t *testing.T) {
	before := document(0, token("a", events), disabled(token("b")), expiring(token("c"), -time.Hour), revoked(token("d")))
	after := mustChange(t, before, deleteApp)
	if !after.Deleted || after.Enforcement != (policy.Enforcement{}) || len(after.Tokens) != 4 {
		t.Errorf("got %+v", after)
	}
	for _, token := range after.Tokens {
		if token.State != policy.Revoked || token.Digest != digest(token.ID) {
			t.Errorf("a token is left as %+v", token)
		}
	}
	if find(t, after, "d") != before.Tokens[3] {
		t.Error("the token that was revoked before was touched")
	}
}

func TestB28_DeleteIsRefused(t *testing.T) {
	deleted := document(0, revoked(token("a")))
	deleted.Deleted = true
	trial := func(e policy.Enforcement) *record.Document {
		d := document(0, token("a"))
		d.Enforcement = e
		return d
	}
	for _, tt := range []struct {
		name   string
		before *record.Document
		want   failure
	}{
		{"no app", nil, noSuchApp},
		{"deleted app", deleted, noSuchApp},
		{"enforced", document(set(events), token("a")), enforced},
		{"enforced in a trial", trial(policy.Enforcement{Scopes: set(events), TrialEndMillis: millis(day)}), enforced},
		{"enforced after a trial", trial(policy.Enforcement{TrialEndMillis: millis(day), After: set(events)}), enforced},
		{"a trial with enforcement has ended", trial(policy.Enforcement{Scopes: set(events), TrialEndMillis: millis(-day)}), fine},
		{
			"a trial without enforcement has ended", trial(policy.Enforcement{TrialEndMillis: millis(-day), After: set(events)}),
			enforced,
		},
		{"without tokens", document(0), fine},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := pure(t, tt.before, deleteApp)
			wantFailure(t, err, tt.want)
		})
	}
}

// TestB28_Revived: a deleted app that is used again starts afresh, but its revoked tokens stay revoked.
func TestB28_Revived(t *testing.T) {
	deleted := mustChange(t, document(0, token("a", events)), deleteApp)
	again := fresh("again", events)
	again.Digest = digest("a")
	_, err := pure(t, deleted, create(again))
	wantFailure(t, err, secretTaken)

	revived := mustChange(t, deleted, func(d *record.Document) (*record.Document, error) {
		return rules.Create(d, later(time.Hour), fresh("a", events))
	})
	if revived.Deleted || revived.CreateMillis != millis(time.Hour) || revived.Enforcement != (policy.Enforcement{}) {
		t.Errorf("got %+v", revived)
	}
	if got := find(t, revived, "a"); got.State != policy.Revoked || got.Digest != digest("a") {
		t.Errorf("the old token became %+v", got)
	}
}
