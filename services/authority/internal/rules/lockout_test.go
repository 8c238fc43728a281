package rules_test

import (
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/services/authority/internal/rules"
)

// TestB16_Lockout: a call that takes the last token of an enforced scope is refused, and with allow_lockout
// it is not.
func TestB16_Lockout(t *testing.T) {
	disable := func(u *rules.Update) { u.State = ptr(policy.Disabled) }
	narrow := func(scopes ...policy.Scope) func(*rules.Update) {
		return func(u *rules.Update) { u.Scopes = ptr(set(scopes...)) }
	}
	expire := func(in time.Duration) func(*rules.Update) {
		return func(u *rules.Update) { u.ExpireMillis = ptr(millis(in)) }
	}
	inTrial := func(scopes policy.ScopeSet, end time.Duration, after policy.ScopeSet, tokens ...record.Token) *record.Document {
		d := document(0, tokens...)
		d.Enforcement = policy.Enforcement{Scopes: scopes, TrialEndMillis: millis(end), After: after}
		return d
	}
	tests := []struct {
		name   string
		before *record.Document
		// change is an update of token a; nil revokes it.
		change func(*rules.Update)
		bare   policy.ScopeSet
	}{
		{"revoke the last", document(set(events), token("a", events)), nil, set(events)},
		{"revoke one of two", document(set(events), token("a", events), token("b", events)), nil, 0},
		{"revoke beside an unscoped one", document(set(events), token("a", events), token("b")), nil, 0},
		{
			"revoke beside a disabled one", document(set(events), token("a", events), disabled(token("b", events))), nil,
			set(events),
		},
		{
			"revoke beside an expired one", document(set(events), token("a", events), expiring(token("b", events), 0)), nil,
			set(events),
		},
		{"revoke beside one of another scope", document(set(events), token("a", events), token("b", sessions)), nil, set(events)},
		{
			"revoke the last of two scopes", document(set(events, sessions), token("a", events, sessions), token("b", events)), nil,
			set(sessions),
		},
		{"revoke the last, other scope enforced", document(set(sessions), token("a", events), token("b", sessions)), nil, 0},
		{"revoke the last, off", document(0, token("a", events)), nil, 0},
		{"revoke the last unscoped", document(set(events, revenue), token("a")), nil, set(events, revenue)},
		{"B14 revoke the last of any scope, GDPR enforced", document(set(gdpr), token("a", events)), nil, set(gdpr)},
		{"B14 revoke one of two, GDPR enforced", document(set(gdpr), token("a", events), token("b", revenue)), nil, 0},
		{"revoke a disabled one, bare already", document(set(events), disabled(token("a", events))), nil, 0},
		{"revoke an expired one, bare already", document(set(events), expiring(token("a", events), 0)), nil, 0},

		{"disable the last", document(set(events), token("a", events)), disable, set(events)},
		{"disable one of two", document(set(events), token("a", events), token("b", events)), disable, 0},
		{"disable an expired one, bare already", document(set(events), expiring(token("a", events), 0)), disable, 0},

		{"narrow the last", document(set(events, sessions), token("a", events, sessions)), narrow(events), set(sessions)},
		{"narrow the last unscoped", document(set(events, sessions), token("a")), narrow(sessions), set(events)},
		{"narrow where it is not enforced", document(set(events), token("a", events, sessions)), narrow(events), 0},
		{"narrow one of two", document(set(sessions), token("a", events, sessions), token("b", sessions)), narrow(events), 0},
		{"B14 narrow, GDPR enforced", document(set(gdpr), token("a", events, sessions)), narrow(events), 0},
		{
			"move to another scope", document(set(events, revenue), token("a", events), token("b", revenue)), narrow(revenue),
			set(events),
		},

		{"expire the last now", document(set(events), token("a", events)), expire(0), set(events)},
		{"expire the last in the past", document(set(events), token("a", events)), expire(-400 * day), set(events)},
		{"expire the last in the future", document(set(events), token("a", events)), expire(day), set(events)},
		{"expire one of two in the future", document(set(events), token("a", events), token("b", events)), expire(day), 0},
		{
			"expire in the future, the other is gone by then",
			document(set(events), token("a", events), expiring(token("b", events), time.Hour)), expire(day), set(events),
		},
		{
			"expire in the future, the other goes later",
			document(set(events), token("a", events), expiring(token("b", events), 2*day)), expire(day), set(events),
		},
		{
			"expire in the future, two others go later one by one",
			document(set(events), token("a", events), expiring(token("b", events), 2*day), expiring(token("c", events), 3*day)),
			expire(day), set(events),
		},
		{
			"expire in the future, the other goes later but a third stays",
			document(set(events), token("a", events), expiring(token("b", events), 2*day), token("c")), expire(day), 0,
		},
		{"expire the last, off", document(0, token("a", events)), expire(day), 0},
		{"expire sooner", document(set(events), expiring(token("a", events), 2*day)), expire(day), set(events)},
		{"expire later", document(set(events), expiring(token("a", events), day)), expire(2 * day), 0},
		{
			"never expire", document(set(events), expiring(token("a", events), day)),
			func(u *rules.Update) { u.ExpireMillis = ptr(int64(0)) }, 0,
		},

		{"revoke in a trial", inTrial(set(events), day, 0, token("a", events)), nil, set(events)},
		{"revoke what is enforced after the trial", inTrial(0, day, set(sessions), token("a", sessions)), nil, set(sessions)},
		{"revoke in a trial that has ended", inTrial(set(events), -day, 0, token("a", events)), nil, 0},
		{"revoke after a trial that has ended", inTrial(0, -day, set(events), token("a", events)), nil, set(events)},
		{
			"narrow to what is enforced in the trial alone", inTrial(set(events), day, set(sessions), token("a")), narrow(events),
			set(sessions),
		},
		{"expire when the trial has ended", inTrial(set(events), day, 0, token("a", events)), expire(day), 0},
		{
			"expire before the trial ends", inTrial(set(events), day, 0, token("a", events)), expire(day - time.Millisecond),
			set(events),
		},
		{
			"expire when what comes after the trial is enforced", inTrial(0, day, set(events), token("a", events)), expire(2 * day),
			set(events),
		},

		{
			"revoke beside one that ends later", document(set(events), token("a", events), expiring(token("b", events), time.Hour)),
			nil, set(events),
		},
		{
			"revoke beside two that end one by one",
			document(set(events), token("a", events), expiring(token("b", events), time.Hour), expiring(token("c", events), day)),
			nil, set(events),
		},
		{
			"revoke beside one that ends later and one that stays",
			document(set(events), token("a", events), expiring(token("b", events), time.Hour), token("c", events)), nil, 0,
		},
		{"revoke the one that ends first", document(set(events), expiring(token("a", events), time.Hour),
			expiring(token("b", events), day)), nil, 0},
		{
			"revoke the one that ends last",
			document(set(events), expiring(token("a", events), day), expiring(token("b", events), time.Hour)), nil, set(events),
		},
		{
			"revoke one of two that end together",
			document(set(events), expiring(token("a", events), day), expiring(token("b", events), day)), nil, 0,
		},
		{
			"revoke beside one that ends and one that is disabled",
			document(set(events), token("a", events), expiring(token("b", events), day), disabled(token("c", events))), nil,
			set(events),
		},
		{
			"revoke a disabled one beside one that ends",
			document(set(events), disabled(token("a", events)), expiring(token("b", events), day)), nil, 0,
		},
		{
			"revoke beside an unscoped one that ends", document(set(events), token("a", events), expiring(token("b"), day)), nil,
			set(events),
		},
		{
			"B14 revoke beside one that ends, GDPR enforced",
			document(set(gdpr), token("a", events), expiring(token("b", sessions), day)), nil, set(gdpr),
		},
		{"revoke beside one that ends, off", document(0, token("a", events), expiring(token("b", events), day)), nil, 0},
		{
			"revoke beside one that outlives the trial",
			inTrial(set(events), time.Hour, 0, token("a", events), expiring(token("b", events), day)), nil, 0,
		},
		{
			"revoke beside one that ends with the trial",
			inTrial(set(events), day, 0, token("a", events), expiring(token("b", events), day)), nil, 0,
		},
		{
			"revoke beside one that ends in the trial",
			inTrial(set(events), day, 0, token("a", events), expiring(token("b", events), time.Hour)), nil, set(events),
		},
		{
			"revoke beside one that ends in what comes after the trial",
			inTrial(0, time.Hour, set(events), token("a", events), expiring(token("b", events), day)), nil, set(events),
		},
		{
			"disable beside one that ends in an hour",
			document(set(events), token("a", events), expiring(token("b", events), time.Hour)), disable, set(events),
		},
		{
			"narrow beside one that ends in an hour",
			document(set(events, sessions), token("a"), expiring(token("b", events), time.Hour)), narrow(sessions), set(events),
		},
		{
			"narrow where it is not enforced, beside one that ends",
			document(set(events), token("a", events, sessions), expiring(token("b", sessions), day)), narrow(events), 0,
		},

		{"rename the last", document(set(events), token("a", events)), func(u *rules.Update) { u.Name = ptr("x") }, 0},
		{"widen the last", document(set(events), token("a", events)), narrow(events, sessions), 0},
	}
	for _, tt := range tests {
		call := func(allow bool) func(*record.Document) (*record.Document, error) {
			if tt.change == nil {
				return revoke(allow, "a")
			}
			return apply(update("a", func(u *rules.Update) { tt.change(u); u.AllowLockout = allow }))
		}
		t.Run(tt.name, func(t *testing.T) {
			_, err := pure(t, tt.before, call(false))
			if tt.bare == 0 {
				wantFailure(t, err, fine)
			} else {
				wantFailure(t, err, lockout)
			}
			if got := scopesOf(err); got != tt.bare {
				t.Errorf("names scopes %b, want %b", got, tt.bare)
			}
			mustChange(t, tt.before, call(true))
		})
	}
}

// TestB16_RevokingSeveralAtOnce: several tokens count together, since a leaked secret may belong to the last
// two.
func TestB16_RevokingSeveralAtOnce(t *testing.T) {
	before := document(set(events), token("a", events), token("b", events))
	_, err := pure(t, before, revoke(false, "a", "b"))
	wantFailure(t, err, lockout)
	mustChange(t, before, revoke(true, "a", "b"))
}

// TestB16_WhatIsBareAlready: a scope that has no token anyway is no reason to refuse a call.
func TestB16_WhatIsBareAlready(t *testing.T) {
	before := document(set(events, sessions), token("a", revenue), token("b", events))
	mustChange(t, before, revoke(false, "a"))
	_, err := pure(t, before, revoke(false, "b"))
	wantFailure(t, err, lockout)
	if got := scopesOf(err); got != set(events) {
		t.Errorf("names scopes %b, want those that the call makes bare", got)
	}
}

// TestB16_SuccessorRevoked: the predecessor of a rotation ends with its overlap, so the successor cannot be
// revoked without warning.
func TestB16_SuccessorRevoked(t *testing.T) {
	before := document(set(events), token("a", events))
	rotated := mustChange(t, before, rotate("a", 7*day))
	mustChange(t, rotated, revoke(false, "a"))
	_, err := pure(t, rotated, revoke(false, "tok_next"))
	wantFailure(t, err, lockout)
	if at := now.Add(7 * day).UTC().Format(time.RFC3339); err == nil || !strings.Contains(err.Error(), "from "+at+" on") {
		t.Errorf("got %v, want the time %s", err, at)
	}
	mustChange(t, rotated, revoke(true, "tok_next"))
}
