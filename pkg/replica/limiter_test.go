package replica

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestSlots: a waiter gets a slot that is free or released. It fails when its context ends, and goes on
// without a slot when the holder makes no progress for stallTimeout.
func TestSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		throttle := newThrottle(2)
		work, release, err := throttle.acquire(t.Context(), throttle.loads)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*stallTimeout)
		defer cancel()
		go func() {
			for ctx.Err() == nil {
				work.step()
				time.Sleep(stallTimeout / 2)
			}
		}()
		if _, _, err := throttle.acquire(ctx, throttle.loads); err == nil {
			t.Error("two loads have the same slot")
		}
		began := time.Now()
		later, cancelLater := context.WithTimeout(t.Context(), 10*stallTimeout)
		defer cancelLater()
		_, releaseNone, err := throttle.acquire(later, throttle.loads)
		if waited := time.Since(began); err != nil || waited < stallTimeout || waited > 3*stallTimeout {
			t.Fatalf("%v after %v beside a stalled holder", err, waited)
		}
		releaseNone()
		release()
		began = time.Now()
		if _, _, err := throttle.acquire(t.Context(), throttle.loads); err != nil || time.Since(began) > 0 {
			t.Errorf("%v after %v for a free slot", err, time.Since(began))
		}
	})
}
