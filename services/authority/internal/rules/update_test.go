package rules_test

import (
	"errors"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/services/authority/internal/rules"
)

// TestB07_EachFieldAlone: an update changes the named fields and the time of the last change, nothing else.
func TestB07_EachFieldAlone(t *testing.T) {
	base := with(token("a", events), func(t *record.Token) { t.Note, t.PredecessorID = "note", "older" })
	for _, tt := range []struct {
		name   string
		change func(*rules.Update)
		want   func(*record.Token)
	}{
		{"name", func(u *rules.Update) { u.Name = ptr("b") }, func(t *record.Token) { t.Name = "b" }},
		{"note", func(u *rules.Update) { u.Note = ptr("") }, func(t *record.Token) { t.Note = "" }},
		{
			"scopes, wider", func(u *rules.Update) { u.Scopes = ptr(set(events, revenue)) },
			func(t *record.Token) { t.Scopes = set(events, revenue) },
		},
		{
			"scopes, other", func(u *rules.Update) { u.Scopes = ptr(set(revenue)) },
			func(t *record.Token) { t.Scopes = set(revenue) },
		},
		{"state", func(u *rules.Update) { u.State = ptr(policy.Disabled) }, func(t *record.Token) { t.State = policy.Disabled }},
		{"expiry", func(u *rules.Update) { u.ExpireMillis = ptr(millis(time.Hour)) }, func(t *record.Token) {
			t.ExpireMillis, t.OwnExpireMillis = millis(time.Hour), millis(time.Hour)
		}},
		{"expires this very millisecond", func(u *rules.Update) { u.ExpireMillis = ptr(millis(0)) }, func(t *record.Token) {
			t.ExpireMillis, t.OwnExpireMillis = policy.Ended, millis(0)
		}},
		{
			"several", func(u *rules.Update) { u.Name, u.State, u.Note = ptr("b"), ptr(policy.Disabled), ptr("c") },
			func(t *record.Token) { t.Name, t.State, t.Note = "b", policy.Disabled, "c" },
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := document(0, base, token("z"))
			after := mustChange(t, before, apply(update("a", tt.change)))
			want := with(with(base, tt.want), func(t *record.Token) { t.UpdateMillis = millis(0) })
			if got := after.Tokens[0]; got != want {
				t.Errorf("got %+v\nwant %+v", got, want)
			}
			if after.Tokens[1] != before.Tokens[1] {
				t.Errorf("the other token became %+v", after.Tokens[1])
			}
			if after.UpdateMillis != millis(0) {
				t.Errorf("the app's last change is %d", after.UpdateMillis)
			}
		})
	}
}

// TestB07_NothingToChange: the result is nil, so that no revision is spent and no etag becomes stale.
func TestB07_NothingToChange(t *testing.T) {
	a := with(expiring(token("a", events), time.Hour), func(t *record.Token) { t.Note = "note" })
	for name, change := range map[string]func(*rules.Update){
		"no field": func(*rules.Update) {},
		"every field as it is": func(u *rules.Update) {
			u.Name, u.Note, u.Scopes, u.State, u.ExpireMillis = ptr("a"), ptr("note"), ptr(set(events)), ptr(policy.Active),
				ptr(millis(time.Hour))
		},
	} {
		t.Run(name, func(t *testing.T) {
			after, err := pure(t, document(set(events), a), apply(update("a", change)))
			if after != nil || err != nil {
				t.Errorf("got %+v, %v", after, err)
			}
		})
	}
}

// TestB07_EtagComesFirst: the token's etag is checked before every other rule.
func TestB07_EtagComesFirst(t *testing.T) {
	stale := errors.New("stale")
	for name, before := range map[string]*record.Document{
		"active":  document(0, token("a", events)),
		"revoked": document(0, revoked(token("a", events))),
	} {
		t.Run(name, func(t *testing.T) {
			var seen []record.Token
			u := rules.Update{TokenID: "a", Name: ptr("b"), Scopes: ptr(set()), Check: func(t *record.Token) error {
				seen = append(seen, *t)
				return stale
			}}
			if _, err := pure(t, before, apply(u)); !errors.Is(err, stale) {
				t.Errorf("got %v", err)
			}
			if len(seen) != 1 || seen[0] != before.Tokens[0] {
				t.Errorf("checked %+v", seen)
			}
		})
	}
}

// TestB06_ExpiryInThePastIsNow: a token that expires at once ends at that moment, and is listed from then on.
func TestB06_ExpiryInThePastIsNow(t *testing.T) {
	for name, ago := range map[string]time.Duration{"a little": time.Minute, "longer than lists go back": 400 * day} {
		t.Run(name, func(t *testing.T) {
			after := mustChange(t, document(0, token("a", events)),
				apply(update("a", func(u *rules.Update) { u.ExpireMillis = ptr(millis(-ago)) })))
			if got := find(t, after, "a"); got.StateAt(millis(0)) != policy.Expired || got.EndMillis() != millis(0) {
				t.Errorf("got state %d, expiry %d, want expired at %d", got.StateAt(millis(0)), got.EndMillis(), millis(0))
			}
		})
	}
	t.Run("of a token that has expired", func(t *testing.T) {
		before := document(0, expiring(token("a", events), -time.Hour))
		for _, past := range []time.Duration{-2 * time.Hour, -time.Hour, -time.Minute} {
			after, err := pure(t, before, apply(update("a", func(u *rules.Update) { u.ExpireMillis = ptr(millis(past)) })))
			if after != nil || err != nil {
				t.Errorf("%v: got %+v, %v, want no change: it has expired", past, after, err)
			}
		}
	})
}

func TestUnknownTokens(t *testing.T) {
	gone := document(0, revoked(token("a", events)))
	gone.Deleted = true
	for name, before := range map[string]*record.Document{
		"no app": nil, "no such token": document(0, token("b")), "deleted app": gone,
	} {
		t.Run(name, func(t *testing.T) {
			for _, id := range []string{"a", ""} {
				_, err := pure(t, before, apply(update(id, func(u *rules.Update) { u.Name = ptr("x") })))
				wantFailure(t, err, noSuchToken)
				_, err = pure(t, before, revoke(false, id))
				wantFailure(t, err, noSuchToken)
				_, err = pure(t, before, rotate(id, 0))
				wantFailure(t, err, noSuchToken)
				if _, err := rules.Find(before, id); err == nil {
					t.Errorf("found %q", id)
				}
			}
		})
	}
}
