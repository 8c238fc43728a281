package validator_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/validator"
)

// TestB20_DataPastItsBoundDecidesNothing: data older than a scope's bound decides nothing for that scope,
// for any app, until it is fresh again.
func TestB20_DataPastItsBoundDecidesNothing(t *testing.T) {
	t.Parallel()
	k := start(t)
	k.store.CopyTo(k.admin)
	const bound = 1500 * time.Millisecond
	v, _ := k.run(t, func(c *validator.Config) { c.MaxStaleness[events], c.MaxStaleness[policy.ScopeGDPR] = bound, time.Hour })
	if err := v.WaitReady(limited(t)); err != nil {
		t.Fatal(err)
	}
	k.fresh(t, v)
	ask := func(app string, scope policy.Scope) error {
		_, err := v.Authorize(t.Context(), validator.Request{AppID: app, Scope: scope, Token: k.good})
		return err
	}
	k.server.Pause()
	paused := time.Now()
	check.Eventually(t, "the data gets too old", func() error {
		answer, err := v.Authorize(t.Context(), k.ask())
		if err == nil {
			if answer.DataAge > bound {
				t.Fatalf("%+v", answer)
			}
			return fmt.Errorf("it is %v old", answer.DataAge)
		}
		mustRefuse(t, err, codes.Unavailable, apierr.DataTooOld)
		return nil
	})
	if took := time.Since(paused); took > bound+5*time.Second {
		t.Errorf("after %v", took)
	}
	for _, app := range []string{k.app, "unknown"} {
		// The app's partition may have been read a moment later than the oldest.
		check.Eventually(t, "the data of "+app+" gets too old", func() error {
			if err := ask(app, events); err != nil {
				mustRefuse(t, err, codes.Unavailable, apierr.DataTooOld)
				return nil
			}
			return errors.New("it decides")
		})
		for _, scope := range []policy.Scope{sessions, policy.ScopeGDPR, policy.MaxScope} {
			if err := ask(app, scope); err != nil {
				t.Errorf("%s, scope %d: %v", app, scope, err)
			}
		}
	}
	if err := v.Ready(); err != nil {
		t.Errorf("Ready: got error %v, want none", err)
	}
	k.server.Resume()
	check.Eventually(t, "deciding again", func() error { return ask(k.app, events) })
}

// TestAuthorizeWithBoundsDoesNotAllocate: Authorize does not allocate when staleness bounds are set,
// exceeded or not.
func TestAuthorizeWithBoundsDoesNotAllocate(t *testing.T) {
	k := start(t)
	k.store.CopyTo(k.admin)
	v, _ := k.run(t, func(c *validator.Config) {
		c.MaxStaleness[events], c.MaxStaleness[sessions] = time.Hour, time.Nanosecond
	})
	if err := v.WaitReady(limited(t)); err != nil {
		t.Fatal(err)
	}
	for _, scope := range []policy.Scope{events, sessions} {
		request := k.ask()
		request.Scope = scope
		least := 1.0
		for range 20 {
			least = min(least, testing.AllocsPerRun(100, func() { _, _ = v.Authorize(t.Context(), request) }))
		}
		if least != 0 {
			t.Errorf("scope %d: %v allocations", scope, least)
		}
	}
}
