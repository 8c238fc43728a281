package validator_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/pkg/testkit/storetest"
	"github.com/countersign/countersign/pkg/validator"
)

func TestB19_AnswersFromTheAppsPolicy(t *testing.T) {
	k := start(t)
	k.store.CopyTo(k.admin)
	v := k.ready(t, k.server.URL())
	other := k.store.App(3, 1) // of the same partition, without a policy
	for _, tt := range []struct {
		name    string
		request validator.Request
		want    policy.Decision
	}{
		{"valid", k.ask(), policy.Decision{Allow: true, Reason: policy.TokenValid, Enforced: true, TokenID: "tok_good"}},
		{"missing", validator.Request{AppID: k.app, Scope: events}, policy.Decision{Reason: policy.TokenMissing, Enforced: true}},
		{
			"empty",
			validator.Request{AppID: k.app, Scope: events, Token: secret.New("")},
			policy.Decision{Reason: policy.TokenMissing, Enforced: true},
		},
		{
			"malformed",
			validator.Request{AppID: k.app, Scope: events, Token: secret.New("x")},
			policy.Decision{Reason: policy.TokenMalformed, Enforced: true},
		},
		{
			"unknown",
			validator.Request{AppID: k.app, Scope: events, Token: secret.Mint()},
			policy.Decision{Reason: policy.TokenUnknown, Enforced: true},
		},
		{
			"revoked",
			validator.Request{AppID: k.app, Scope: events, Token: k.revoked},
			policy.Decision{Reason: policy.TokenRevoked, Enforced: true, TokenID: "tok_revoked"},
		},
		{
			"other scope",
			validator.Request{AppID: k.app, Scope: sessions, Token: k.good},
			policy.Decision{Allow: true, Reason: policy.ScopeNotGranted, TokenID: "tok_good"},
		},
		{
			"last scope",
			validator.Request{AppID: k.app, Scope: policy.MaxScope},
			policy.Decision{Allow: true, Reason: policy.TokenMissing},
		},
		{
			"Google Tag Manager",
			validator.Request{AppID: k.app, Scope: events, Source: policy.SourceGoogleTagManager},
			policy.Decision{Reason: policy.SourceNotSupported, Enforced: true},
		},
		{
			"other app",
			validator.Request{AppID: other, Scope: events, Token: k.good},
			policy.Decision{Allow: true, Reason: policy.AppNotConfigured},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := v.Authorize(t.Context(), tt.request)
			if err != nil || got.Decision != tt.want {
				t.Errorf("Authorize: got %+v, error %v; want %+v", got, err, tt.want)
			}
			if got.Revision != k.store.Head(3).Revision || got.DataAge < 0 || got.DataAge > 5*time.Second {
				t.Errorf("got revision %d, want %d; got data age %v", got.Revision, k.store.Head(3).Revision, got.DataAge)
			}
		})
	}
}

func TestB19_MalformedRequestsAreInvalidBeforeAnythingElse(t *testing.T) {
	k := start(t)
	idle, err := validator.New(validator.Config{RedisURL: k.server.URL(), Ring: k.store.Ring()})
	if err != nil {
		t.Fatal(err)
	}
	k.store.CopyTo(k.admin)
	for state, v := range map[string]*validator.Validator{"before data": idle, "loaded": k.ready(t, k.server.URL())} {
		for _, tt := range []struct {
			name, field string
			request     validator.Request
		}{
			{"no app", "app_id", validator.Request{Scope: events}},
			{"app with a space", "app_id", validator.Request{AppID: "a b", Scope: events}},
			{"long app", "app_id", validator.Request{AppID: strings.Repeat("a", 65), Scope: events}},
			{"app and scope", "app_id", validator.Request{}},
			{"no scope", "scope", validator.Request{AppID: k.app}},
			{"scope out of range", "scope", validator.Request{AppID: k.app, Scope: policy.MaxScope + 1}},
			{"largest scope", "scope", validator.Request{AppID: k.app, Scope: 255}},
			{"malformed min_revision", "min_revision", validator.Request{AppID: k.app, Scope: events, MinRevision: "x"}},
			{
				"oversized min_revision", "min_revision",
				validator.Request{AppID: k.app, Scope: events, MinRevision: strings.Repeat("A", 1<<20)},
			},
		} {
			t.Run(state+", "+tt.name, func(t *testing.T) {
				tt.request.Token = k.good
				answer, err := v.Authorize(t.Context(), tt.request)
				mustRefuse(t, err, codes.InvalidArgument, tt.field)
				if answer != (validator.Answer{}) {
					t.Errorf("Authorize: got an error with the answer %+v, want an empty answer", answer)
				}
			})
		}
	}
}

// TestB20_NothingIsDecidedBeforeTheDataIsThere: a validator decides nothing before Run, when there is no
// store, and when the store cannot be verified.
func TestB20_NothingIsDecidedBeforeTheDataIsThere(t *testing.T) {
	k := start(t)
	position := record.EncodePosition(record.Position{
		StoreID: k.store.Meta().StoreID, Partition: 3, Cursor: record.Cursor{Epoch: 1, Revision: 1, Tag: k.store.Head(3).Tag},
	})
	check := func(t *testing.T, v *validator.Validator) {
		t.Helper()
		if v.Ready() == nil {
			t.Error("Ready: got no error, want one")
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if v.WaitReady(ctx) == nil {
			t.Error("WaitReady: got no error, want the error of its context")
		}
		for _, app := range []string{k.app, "unknown"} {
			answer, err := v.Authorize(ctx, validator.Request{AppID: app, Token: k.good, Scope: events})
			mustRefuse(t, err, codes.Unavailable, apierr.NotLoaded)
			if answer != (validator.Answer{}) {
				t.Errorf("Authorize: got an error with the answer %+v, want an empty answer", answer)
			}
		}
	}
	idle, err := validator.New(validator.Config{RedisURL: k.server.URL(), Ring: k.store.Ring()})
	if err != nil {
		t.Fatal(err)
	}
	t.Run("not run", func(t *testing.T) {
		check(t, idle)
		request := k.ask()
		request.MinRevision = position
		_, err := idle.Authorize(t.Context(), request)
		mustRefuse(t, err, codes.Unavailable, apierr.NotLoaded)
	})
	t.Run("no store", func(t *testing.T) { check(t, k.validator(t, k.server.URL(), k.store.Ring())) })
	k.store.CopyTo(k.admin)
	t.Run("other keys", func(t *testing.T) { check(t, k.validator(t, k.server.URL(), storetest.New(t, 8).Ring())) })

	// An incomplete partition leaves its own apps undecided, and the validator not ready.
	if err := k.admin.Del(t.Context(), record.KeysOf(3).Policies).Err(); err != nil {
		t.Fatal(err)
	}
	t.Run("documents gone", func(t *testing.T) {
		v := k.validator(t, k.server.URL(), k.store.Ring())
		deadline := time.Now().Add(20 * time.Second)
		for {
			answer, err := v.Authorize(t.Context(), validator.Request{AppID: k.store.App(4, 0), Scope: events})
			if err == nil && answer.Reason == policy.AppNotConfigured {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("app of another partition: got %+v, error %v", answer, err)
			}
		}
		answer, err := v.Authorize(t.Context(), k.ask())
		mustRefuse(t, err, codes.Unavailable, apierr.NotLoaded)
		if v.Ready() == nil {
			t.Errorf("Ready with an incomplete partition: got no error, want one; the answer is %+v", answer)
		}
	})
}

// TestB20_DamagedPolicyIsUnavailableNeverOpen: the store has a damaged policy of an app, and the validator
// never had a good one. Requests about the app are neither allowed nor denied.
func TestB20_DamagedPolicyIsUnavailableNeverOpen(t *testing.T) {
	k := start(t)
	k.store.CopyTo(k.admin)
	if err := k.admin.HSet(t.Context(), record.KeysOf(3).Policies, k.app, "garbage").Err(); err != nil {
		t.Fatal(err)
	}
	v := k.ready(t, k.server.URL())
	for _, request := range []validator.Request{
		k.ask(), {AppID: k.app, Scope: sessions}, {AppID: k.app, Scope: events, Token: k.revoked},
	} {
		answer, err := v.Authorize(t.Context(), request)
		mustRefuse(t, err, codes.Unavailable, apierr.PolicyUnverified)
		if answer != (validator.Answer{}) {
			t.Errorf("Authorize: got an error with the answer %+v, want an empty answer", answer)
		}
	}
	if answer, err := v.Authorize(
		t.Context(), validator.Request{AppID: k.store.App(3, 1), Scope: events},
	); err != nil ||
		answer.Reason != policy.AppNotConfigured {
		t.Errorf("another app: got %+v, error %v", answer, err)
	}
}

func TestNewRefusesABadURL(t *testing.T) {
	v, err := validator.New(validator.Config{RedisURL: "redis://validator:pa55-w0rd@host:port"})
	if err == nil || v != nil || strings.Contains(err.Error(), "pa55") {
		t.Errorf("%v, %v", v, err)
	}
}

// TestAuthorizeDoesNotAllocate: Authorize does not allocate, whatever the answer, once the data is loaded.
func TestAuthorizeDoesNotAllocate(t *testing.T) {
	k := start(t)
	k.store.CopyTo(k.admin)
	v := k.ready(t, k.server.URL())
	ctx := t.Context()
	for name, request := range map[string]validator.Request{
		"allowed": k.ask(), "denied": {AppID: k.app, Scope: events, Token: k.revoked}, "no token": {AppID: k.app, Scope: events},
		"unknown app": {AppID: "unknown", Scope: events, Token: k.good}, "invalid": {Scope: events, Token: k.good},
	} {
		// The polls of Redis allocate too. The lowest of several counts contains no poll.
		least := 1.0
		for range 20 {
			least = min(least, testing.AllocsPerRun(100, func() { _, _ = v.Authorize(ctx, request) }))
		}
		if least != 0 {
			t.Errorf("%s: %v allocations", name, least)
		}
	}
}

func BenchmarkAuthorize(b *testing.B) {
	k := start(b)
	k.store.CopyTo(k.admin)
	v := k.ready(b, k.server.URL())
	request := k.ask()
	ctx := b.Context()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if answer, err := v.Authorize(ctx, request); err != nil || !answer.Allow {
				b.Errorf("Authorize: got %+v, error %v", answer, err)
			}
		}
	})
}
