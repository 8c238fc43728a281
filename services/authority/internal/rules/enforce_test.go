package rules_test

import (
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/services/authority/internal/rules"
)

// enforce sets the enforced scopes for good.
func enforce(scopes policy.ScopeSet) func(*record.Document) (*record.Document, error) {
	return func(d *record.Document) (*record.Document, error) { return rules.Enforce(d, by, app, scopes, 0) }
}

// try sets the enforced scopes until some time from now.
func try(scopes policy.ScopeSet, length time.Duration) func(*record.Document) (*record.Document, error) {
	return func(d *record.Document) (*record.Document, error) {
		return rules.Enforce(d, by, app, scopes, millis(length))
	}
}

// TestB12_EachScopeNeedsAToken: the token must be ACTIVE and authenticate the scope.
func TestB12_EachScopeNeedsAToken(t *testing.T) {
	for _, tt := range []struct {
		name   string
		before *record.Document
		scopes policy.ScopeSet
		bare   policy.ScopeSet
	}{
		{"its own scope", document(0, token("a", events)), set(events), 0},
		{"another scope", document(0, token("a", events)), set(sessions), set(sessions)},
		{"one of two", document(0, token("a", events)), set(events, sessions), set(sessions)},
		{"two tokens for two scopes", document(0, token("a", events), token("b", sessions)), set(events, sessions), 0},
		{"none of three", document(0, disabled(token("a"))), set(events, sessions, gdpr), set(events, sessions, gdpr)},
		{"B05 unscoped", document(0, token("a")), set(events, sessions, revenue, gdpr), 0},
		{"disabled", document(0, disabled(token("a", events))), set(events), set(events)},
		{"revoked", document(0, revoked(token("a", events))), set(events), set(events)},
		{"expired", document(0, expiring(token("a", events), 0)), set(events), set(events)},
		{"expires the next millisecond", document(0, expiring(token("a", events), time.Millisecond)), set(events), 0},
		{"no tokens", document(0), set(events), set(events)},
		{"widened", document(set(events), token("a", events)), set(events, revenue), set(revenue)},
		{"narrowed to what has a token", document(set(events, sessions), token("a", events)), set(events), 0},
	} {
		for kind, call := range map[string]func(*record.Document) (*record.Document, error){
			"for good": enforce(tt.scopes), "in a trial": try(tt.scopes, day),
		} {
			t.Run(tt.name+", "+kind, func(t *testing.T) {
				after, err := pure(t, tt.before, call)
				if tt.bare != 0 {
					wantFailure(t, err, noCover)
					if got := scopesOf(err); got != tt.bare {
						t.Errorf("names scopes %b, want %b", got, tt.bare)
					}
					return
				}
				wantFailure(t, err, fine)
				if after.Enforcement.Scopes != tt.scopes || after.UpdateMillis != millis(0) {
					t.Errorf("got %+v", after)
				}
			})
		}
	}
}

func TestB12_SwitchingOffIsAlwaysPossible(t *testing.T) {
	for name, before := range map[string]*record.Document{
		"with a token":   document(set(events, gdpr), token("a", events)),
		"without tokens": document(set(events, gdpr)),
	} {
		t.Run(name, func(t *testing.T) {
			if after := mustChange(t, before, enforce(0)); after.Enforcement != (policy.Enforcement{}) {
				t.Errorf("got %+v", after.Enforcement)
			}
		})
	}
}

func TestB12_NothingToChange(t *testing.T) {
	running := document(0, token("a"))
	running.Enforcement = policy.Enforcement{Scopes: set(events), TrialEndMillis: millis(day), After: set(sessions)}
	for _, tt := range []struct {
		name   string
		before *record.Document
		call   func(*record.Document) (*record.Document, error)
	}{
		{"off", document(0, token("a")), enforce(0)},
		{"on", document(set(events), token("a")), enforce(set(events))},
		{"a running trial", running, try(set(events), day)},
		{"an app never heard of", nil, enforce(0)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if after, err := pure(t, tt.before, tt.call); after != nil || err != nil {
				t.Errorf("got %+v, %v", after, err)
			}
		})
	}
}

func TestB12_AppWithoutTokens(t *testing.T) {
	for name, before := range map[string]*record.Document{"never heard of": nil, "without tokens": document(0)} {
		t.Run(name, func(t *testing.T) {
			_, err := pure(t, before, enforce(set(events)))
			wantFailure(t, err, noCover)
		})
	}
}

// TestB17_WhatATrialGoesBackTo: a trial returns to what was enforced before it. Overlapping trials return to
// what was enforced before the first one.
func TestB17_WhatATrialGoesBackTo(t *testing.T) {
	trial := func(scopes policy.ScopeSet, end time.Duration, after policy.ScopeSet) policy.Enforcement {
		return policy.Enforcement{Scopes: scopes, TrialEndMillis: millis(end), After: after}
	}
	for _, tt := range []struct {
		name   string
		before policy.Enforcement
		want   policy.ScopeSet
	}{
		{"off", policy.Enforcement{}, 0},
		{"on", policy.Enforcement{Scopes: set(events)}, set(events)},
		{"a trial from off runs", trial(set(events), time.Hour, 0), 0},
		{"a trial from on runs", trial(set(events, sessions), time.Hour, set(events)), set(events)},
		{"a trial that switched off runs", trial(0, time.Hour, set(events)), set(events)},
		{"a trial from off has ended", trial(set(events), -time.Hour, 0), 0},
		{"a trial from on has ended", trial(set(events, sessions), -time.Hour, set(events)), set(events)},
		{"a trial ends this very millisecond", trial(set(sessions), 0, set(events)), set(events)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := document(0, token("a"))
			before.Enforcement = tt.before
			after := mustChange(t, before, try(set(revenue), day))
			if want := trial(set(revenue), day, tt.want); after.Enforcement != want {
				t.Errorf("got %+v, want %+v", after.Enforcement, want)
			}
			if got := after.Enforcement.At(millis(day) - 1); got != set(revenue) {
				t.Errorf("in the trial: %b", got)
			}
			if got := after.Enforcement.At(millis(day)); got != tt.want {
				t.Errorf("after the trial: %b, want %b", got, tt.want)
			}
		})
	}
	t.Run("a second trial while the first runs, both end", func(t *testing.T) {
		first := mustChange(t, document(set(events), token("a")), try(set(events, sessions), day))
		second := mustChange(t, first, try(set(revenue), 2*day))
		if got := second.Enforcement.At(millis(2 * day)); got != set(events) {
			t.Errorf("in the end %b is enforced", got)
		}
	})
	t.Run("for good in a trial", func(t *testing.T) {
		running := mustChange(t, document(0, token("a")), try(set(events), day))
		if after := mustChange(t, running, enforce(set(events))); after.Enforcement != (policy.Enforcement{Scopes: set(events)}) {
			t.Errorf("got %+v", after.Enforcement)
		}
	})
	t.Run("off in a trial", func(t *testing.T) {
		running := mustChange(t, document(set(events), token("a")), try(set(events, sessions), day))
		if after := mustChange(t, running, enforce(0)); after.Enforcement != (policy.Enforcement{}) {
			t.Errorf("got %+v", after.Enforcement)
		}
	})
}

func TestB17_TrialsEndInTheFuture(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  int64
		want failure
	}{
		{"next millisecond", millis(0) + 1, fine},
		{"this very millisecond", millis(0), invalid("trial_end_time")},
		{"long ago", 1, invalid("trial_end_time")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := pure(t, document(0, token("a")), func(d *record.Document) (*record.Document, error) {
				return rules.Enforce(d, by, app, set(events), tt.end)
			})
			wantFailure(t, err, tt.want)
		})
	}
}
