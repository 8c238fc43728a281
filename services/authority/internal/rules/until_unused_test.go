package rules_test

import (
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/services/authority/internal/rules"
)

// untilUnused rotates the token a, which ends once it is unused for a day.
func untilUnused(t *testing.T) *record.Document {
	t.Helper()
	return mustChange(t, document(set(events), token("a", events)), func(d *record.Document) (*record.Document, error) {
		return rules.Rotate(d, by, "a", rules.Overlap{Most: 90 * day, UntilUnused: day}, "b", secret.Mint())
	})
}

// TestB09_UntilUnused: the old token of a rotation remembers that it ends once it is unused. Its successor
// does not.
func TestB09_UntilUnused(t *testing.T) {
	d := untilUnused(t)
	if a, b := find(t, d, "a"), find(t, d, "b"); a.UntilUnusedMillis != day.Milliseconds() || b.UntilUnusedMillis != 0 ||
		a.OverlapEndMillis != millis(90*day) {
		t.Errorf("got %+v and %+v", a, b)
	}
	a := find(t, d, "a")
	if began, wanted := rules.UntilUnused(d, &a, millis(time.Hour)); !wanted || began != millis(0) {
		t.Errorf("got %d, %t", began, wanted)
	}
}

// TestB09_EndUnused: the token ends at once, by state, and its own expiry stays.
func TestB09_EndUnused(t *testing.T) {
	d := untilUnused(t)
	after := mustChange(t, d, func(d *record.Document) (*record.Document, error) {
		return rules.EndUnused(d, later(2*day), "a")
	})
	a := find(t, after, "a")
	if a.ExpireMillis != policy.Ended || a.OverlapEndMillis != millis(2*day) || a.OwnExpireMillis != 0 ||
		a.UntilUnusedMillis != 0 || a.UpdateMillis != millis(2*day) {
		t.Errorf("got %+v", a)
	}
	if again, err := rules.EndUnused(after, later(3*day), "a"); again != nil || err != nil {
		t.Errorf("again: %v, %v", again, err)
	}
}

// TestB09_UntilUnusedIsOver: the token does not end by itself any more when a person has given it an end, and
// while no active successor is there to replace it.
func TestB09_UntilUnusedIsOver(t *testing.T) {
	for name, change := range map[string]func(*record.Document) (*record.Document, error){
		"the expiry was set": func(d *record.Document) (*record.Document, error) {
			return update("a", func(u *rules.Update) { u.ExpireMillis = ptr(millis(30 * day)) }).Apply(d, by)
		},
		"the expiry was removed": func(d *record.Document) (*record.Document, error) {
			return update("a", func(u *rules.Update) { u.ExpireMillis = ptr(int64(0)) }).Apply(d, by)
		},
		"it is disabled": func(d *record.Document) (*record.Document, error) {
			return update("a", func(u *rules.Update) { u.State = ptr(policy.Disabled) }).Apply(d, by)
		},
		"it is revoked":            func(d *record.Document) (*record.Document, error) { return rules.Revoke(d, by, false, "a") },
		"its successor is revoked": func(d *record.Document) (*record.Document, error) { return rules.Revoke(d, by, true, "b") },
		"its successor is disabled": func(d *record.Document) (*record.Document, error) {
			return update("b", func(u *rules.Update) {
				u.State, u.AllowLockout = ptr(policy.Disabled), true
			}).Apply(d, by)
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := mustChange(t, untilUnused(t), change)
			if after, err := rules.EndUnused(d, later(2*day), "a"); after != nil || err != nil {
				t.Errorf("got %v, %v", after, err)
			}
		})
	}
	t.Run("another field was changed", func(t *testing.T) {
		d := mustChange(t, untilUnused(t), func(d *record.Document) (*record.Document, error) {
			return update("a", func(u *rules.Update) { u.Note = ptr("noted") }).Apply(d, by)
		})
		if after, err := rules.EndUnused(d, later(2*day), "a"); after == nil || err != nil {
			t.Errorf("got %v, %v", after, err)
		}
	})
}

// TestB16_EndUnusedLocksNobodyOut: the token stays when its successor does not authenticate all that is
// enforced.
func TestB16_EndUnusedLocksNobodyOut(t *testing.T) {
	d := mustChange(t, document(set(events), token("a", events, sessions)),
		func(d *record.Document) (*record.Document, error) {
			return rules.Rotate(d, by, "a", rules.Overlap{Most: 90 * day, UntilUnused: day}, "b", secret.Mint())
		})
	d = mustChange(t, d, func(d *record.Document) (*record.Document, error) {
		return update("b", func(u *rules.Update) { u.Scopes, u.AllowLockout = ptr(set(sessions)), true }).Apply(d, by)
	})
	_, err := rules.EndUnused(d, later(2*day), "a")
	wantFailure(t, err, lockout)
}
