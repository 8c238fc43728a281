package validator_test

import (
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/pkg/usage"
	"github.com/countersign/countersign/pkg/validator"
	"github.com/countersign/countersign/pkg/validator/inside"
)

// B21, B22: every decision about an app with a policy is counted, for its minute, token and scope. Errors are
// not counted, nor are decisions about apps without a policy.
func TestB21_DecisionsAreCounted(t *testing.T) {
	k := start(t)
	k.store.CopyTo(k.admin)
	v := k.ready(t, k.server.URL())
	began := time.Now().Truncate(time.Minute)
	other := k.store.App(3, 1) // of the same partition, without a policy
	const times = 3
	for range times {
		for _, request := range []validator.Request{
			k.ask(),
			{AppID: k.app, Scope: sessions, Token: k.good},
			{AppID: k.app, Scope: events, Token: k.revoked},
			{AppID: k.app, Scope: events, Token: secret.Mint()},
			{AppID: k.app, Scope: sessions, Source: policy.SourceGoogleTagManager},
			{AppID: other, Scope: events, Token: k.good},
			{AppID: "unknown", Scope: events},
		} {
			if _, err := v.Authorize(t.Context(), request); err != nil {
				t.Fatal(err)
			}
		}
		for _, request := range []validator.Request{
			{AppID: k.app}, {AppID: k.app, Scope: events, MinRevision: "x"}, {Scope: events},
		} {
			if _, err := v.Authorize(t.Context(), request); err == nil {
				t.Fatal("Authorize: got a decision, want an error")
			}
		}
	}
	ended := time.Now()
	got := map[usage.Count]uint64{}
	for _, c := range inside.Usage(v).TakeAll(100) {
		if c.Minute.Before(began) || c.Minute.After(ended) || !c.Minute.Equal(c.Minute.Truncate(time.Minute)) {
			t.Errorf("%+v, between %v and %v", c, began, ended)
		}
		n := c.N
		c.N, c.Minute = 0, time.Time{}
		got[c] += n
	}
	want := []usage.Count{
		{TokenID: "tok_good", Scope: events, Reason: policy.TokenValid, Enforced: true},
		{TokenID: "tok_good", Scope: sessions, Reason: policy.ScopeNotGranted},
		{TokenID: "tok_revoked", Scope: events, Reason: policy.TokenRevoked, Enforced: true},
		{Scope: events, Reason: policy.TokenUnknown, Enforced: true},
		{Scope: sessions, Reason: policy.SourceNotSupported},
	}
	for _, c := range want {
		c.AppID = k.app
		if got[c] != times {
			t.Errorf("counted %d decisions, want %d: %+v", got[c], times, c)
		}
	}
	if len(got) != len(want) {
		t.Errorf("got %d counters, want %d: %+v", len(got), len(want), got)
	}
}

// TestStopCounting: a validator for measurements decides, and counts nothing.
func TestStopCounting(t *testing.T) {
	k := start(t)
	k.store.CopyTo(k.admin)
	v := k.ready(t, k.server.URL())
	inside.StopCounting(v)
	for _, token := range []secret.Secret{k.good, secret.Mint()} {
		if _, err := v.Authorize(t.Context(), validator.Request{AppID: k.app, Scope: events, Token: token}); err != nil {
			t.Fatal(err)
		}
	}
	if counts := inside.Usage(v).TakeAll(10); len(counts) != 0 {
		t.Errorf("counted: %v", counts)
	}
}
