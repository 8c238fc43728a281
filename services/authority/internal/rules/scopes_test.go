package rules_test

import (
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/services/authority/internal/rules"
)

// TestB04_ScopesWithEnforcement: an app with any enforcement, now or after a trial, takes no unscoped tokens.
func TestB04_ScopesWithEnforcement(t *testing.T) {
	trial := func(end time.Duration, scopes, after policy.ScopeSet) policy.Enforcement {
		return policy.Enforcement{Scopes: scopes, TrialEndMillis: millis(end), After: after}
	}
	for _, tt := range []struct {
		name        string
		enforcement policy.Enforcement
		refused     bool
	}{
		{"off", policy.Enforcement{}, false},
		{"on", policy.Enforcement{Scopes: set(events)}, true},
		{"on for GDPR alone", policy.Enforcement{Scopes: set(gdpr)}, true},
		{"on in a trial", trial(time.Hour, set(events), 0), true},
		{"off until a trial ends", trial(time.Hour, 0, set(events)), true},
		{"off since a trial ended", trial(0, set(events), 0), false},
		{"on since a trial ended", trial(0, 0, set(events)), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := document(0, token("scoped", events), token("unscoped"))
			before.Enforcement = tt.enforcement
			want := func(field string) failure {
				if tt.refused {
					return invalid(field)
				}
				return fine
			}
			_, err := pure(t, before, create(fresh("new")))
			wantFailure(t, err, want("scopes"))
			_, err = pure(t, before, create(fresh("new", sessions)))
			wantFailure(t, err, fine)

			imported := fresh("imported")
			imported.Imported, imported.Field = true, "imports[0]."
			_, err = pure(t, before, create(imported))
			wantFailure(t, err, want("imports[0].scopes"))

			_, err = pure(t, before, apply(update("unscoped", func(u *rules.Update) { u.Scopes = ptr(set()) })))
			wantFailure(t, err, want("token.scopes"))
			_, err = pure(t, before, apply(update("unscoped", func(u *rules.Update) { u.Name = ptr("renamed") })))
			wantFailure(t, err, fine)
		})
	}
}

func apply(u rules.Update) func(*record.Document) (*record.Document, error) {
	return func(d *record.Document) (*record.Document, error) { return u.Apply(d, by) }
}

func TestB04_NoScopesForAnAppNeverHeardOf(t *testing.T) {
	if after := mustChange(t, nil, create(fresh("a"))); after.Tokens[0].Scopes != 0 {
		t.Errorf("got scopes %b", after.Tokens[0].Scopes)
	}
}

func TestB05_UnscopedTokens(t *testing.T) {
	on := document(set(events, sessions), token("unscoped"), token("scoped", events))

	t.Run("can be given scopes", func(t *testing.T) {
		after := mustChange(t, on, apply(update("unscoped", func(u *rules.Update) { u.Scopes = ptr(set(events, sessions)) })))
		if got := find(t, after, "unscoped").Scopes; got != set(events, sessions) {
			t.Errorf("got scopes %b", got)
		}
	})
	t.Run("can be renamed", func(t *testing.T) {
		after := mustChange(t, on, apply(update("unscoped", func(u *rules.Update) { u.Name = ptr("renamed") })))
		if got := find(t, after, "unscoped"); got.Name != "renamed" || got.Scopes != 0 {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("can be rotated, also while enforced", func(t *testing.T) {
		after := mustChange(t, on, func(d *record.Document) (*record.Document, error) {
			return rules.Rotate(d, by, "unscoped", rules.Overlap{Most: time.Hour}, "next", secret.Mint())
		})
		if got := find(t, after, "next").Scopes; got != 0 {
			t.Errorf("the successor has scopes %b", got)
		}
	})
	for name, before := range map[string]*record.Document{"while enforced": on, "while off": document(0, on.Tokens...)} {
		t.Run("a scoped one never becomes unscoped, "+name, func(t *testing.T) {
			_, err := pure(t, before, apply(update("scoped", func(u *rules.Update) { u.Scopes = ptr(set()) })))
			wantFailure(t, err, invalid("token.scopes"))
			_, err = pure(t, before, apply(update("scoped", func(u *rules.Update) { u.Scopes, u.AllowLockout = ptr(set()), true })))
			wantFailure(t, err, invalid("token.scopes"))
		})
	}
}

func TestB14_GDPRCannotBeGranted(t *testing.T) {
	for name, enforcement := range map[string]policy.ScopeSet{"off": 0, "GDPR enforced": set(gdpr)} {
		t.Run(name, func(t *testing.T) {
			before := document(enforcement, token("a", events))
			_, err := pure(t, before, create(fresh("new", events, gdpr)))
			wantFailure(t, err, invalid("scopes"))
			_, err = pure(t, before, apply(update("a", func(u *rules.Update) { u.Scopes = ptr(set(gdpr)) })))
			wantFailure(t, err, invalid("token.scopes"))
		})
	}
}

// TestB14_AnyActiveTokenCoversGDPR: any ACTIVE token does, and no other.
func TestB14_AnyActiveTokenCoversGDPR(t *testing.T) {
	for _, tt := range []struct {
		name  string
		token record.Token
		want  failure
	}{
		{"scoped", token("a", revenue), fine},
		{"unscoped", token("a"), fine},
		{"disabled", disabled(token("a", revenue)), noCover},
		{"expired", expiring(token("a", revenue), 0), noCover},
		{"revoked", revoked(token("a", revenue)), noCover},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := pure(t, document(0, tt.token), enforce(set(gdpr)))
			wantFailure(t, err, tt.want)
		})
	}
}
