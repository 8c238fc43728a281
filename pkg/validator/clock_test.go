package validator_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/storetest"
	"github.com/countersign/countersign/pkg/validator"
)

// TestB08_ExpiryIsDecidedByTheValidatorsClock: tokens expire by the validator's clock. When the clock jumps,
// the data counts as stale until the next good read of the store.
func TestB08_ExpiryIsDecidedByTheValidatorsClock(t *testing.T) {
	t.Parallel()
	k := start(t)
	ends := secret.Mint()
	token := storetest.Token("tok_ends", ends.Reveal(), events)
	token.ExpireMillis = time.Now().Add(time.Hour).UnixMilli()
	k.store.Commit(k.app, storetest.Add(token))
	k.store.CopyTo(k.admin)
	var ahead atomic.Int64
	v, _ := k.run(t, func(c *validator.Config) {
		c.WallClock = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	})
	if err := v.WaitReady(limited(t)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		ahead time.Duration
		want  policy.Reason
	}{{0, policy.TokenValid}, {2 * time.Hour, policy.TokenExpired}, {-2 * time.Hour, policy.TokenValid}} {
		ahead.Store(int64(tt.ahead))
		answer, err := v.Authorize(t.Context(), validator.Request{AppID: k.app, Token: ends, Scope: events})
		if err != nil || answer.Reason != tt.want {
			t.Errorf("%v ahead: %v, %v; want %v", tt.ahead, answer.Reason, err, tt.want)
		}
	}
	fresh := func() error {
		if age, stale := v.Freshness(); stale || age > time.Minute {
			return errors.New("the data is stale")
		}
		return nil
	}
	check.Eventually(t, "the data is fresh by the clock as it is", fresh)
	k.server.Pause()
	check.Eventually(t, "no read is under way", func() error {
		if age, _ := v.Freshness(); age < time.Second {
			return errors.New("the data is fresh")
		}
		return nil
	})
	ahead.Add(int64(time.Hour))
	if age, stale := v.Freshness(); !stale || age < time.Hour {
		t.Errorf("after a jump of the clock: got data age %v, stale %v; want stale data", age, stale)
	}
	k.server.Resume()
	check.Eventually(t, "the data is fresh again", fresh)
}
