package validator_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	"github.com/countersign/countersign/pkg/testkit/storetest"
	"github.com/countersign/countersign/pkg/validator"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	events   policy.Scope = 1
	sessions policy.Scope = 2
)

// kit is a store in a Redis server, with one app and its tokens.
type kit struct {
	server *redistest.Server
	admin  *redisfeed.Client
	store  *storetest.Store
	// app enforces events. good is its token for them.
	app     string
	good    secret.Secret
	revoked secret.Secret
}

// start starts a Redis server, and makes a store of 8 partitions.
func start(t testing.TB) *kit {
	t.Helper()
	k := &kit{server: redistest.Start(t), store: storetest.New(t, 8), good: secret.Mint(), revoked: secret.Mint()}
	k.admin = openClient(t, k.server.URL())
	k.app = k.store.App(3, 0)
	k.store.Commit(k.app, storetest.Add(
		storetest.Token("tok_good", k.good.Reveal(), events), storetest.Token("tok_revoked", k.revoked.Reveal(), events),
	), storetest.SetState("tok_revoked", policy.Revoked), storetest.Enforce(events))
	return k
}

func openClient(t testing.TB, url string) *redisfeed.Client {
	t.Helper()
	c, err := redisfeed.Open(url, redisfeed.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// validator makes a validator, and runs it until the test ends.
func (k *kit) validator(t testing.TB, url string, ring *keyring.Ring) *validator.Validator {
	t.Helper()
	v, err := validator.New(validator.Config{RedisURL: url, Ring: ring, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- v.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return v
}

// ready returns a validator that has loaded all data.
func (k *kit) ready(t testing.TB, url string) *validator.Validator {
	t.Helper()
	v := k.validator(t, url, k.store.Ring())
	if err := v.WaitReady(limited(t)); err != nil {
		t.Fatal(err)
	}
	return v
}

// limited returns a context with a deadline that is much later than any expected event.
func limited(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// ask returns a question with the good token.
func (k *kit) ask() validator.Request {
	return validator.Request{AppID: k.app, Token: k.good, Scope: events}
}

// mustRefuse fails the test unless an error has a code, and a stable reason or an invalid field.
func mustRefuse(t testing.TB, err error, code codes.Code, reasonOrField string) {
	t.Helper()
	var e *apierr.Error
	if !errors.As(err, &e) || e.Code() != code {
		t.Errorf("%v, want code %v", err, code)
		return
	}
	got := apierr.ReasonOf(err)
	for _, detail := range status.Convert(e).Details() {
		if bad, ok := detail.(*errdetails.BadRequest); ok {
			got = bad.GetFieldViolations()[0].GetField()
		}
	}
	if got != reasonOrField {
		t.Errorf("%v is about %q, want %q", err, got, reasonOrField)
	}
}
