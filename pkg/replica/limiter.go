package replica

import (
	"context"
	"sync/atomic"
	"time"
)

// stallTimeout is how long a waiter tolerates slot holders that make no progress. The holders may wait for
// a server that does not answer, and the waiter's partition may be on another server.
const stallTimeout = 250 * time.Millisecond

// limiter bounds how many goroutines do expensive work at once.
type limiter struct {
	slots chan struct{}
	// steps counts the steps of all slot holders, so that waiters see progress.
	steps atomic.Uint64
}

func newLimiter(slots int) *limiter { return &limiter{slots: make(chan struct{}, slots)} }

// acquire waits for a slot. When no holder makes a step for stallTimeout, it goes on without a slot and
// returns false. It fails when ctx ends first. After true the caller must call release.
func (l *limiter) acquire(ctx context.Context) (slot bool, err error) {
	for seen := l.steps.Load(); ; {
		select {
		case l.slots <- struct{}{}:
			return true, nil
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(stallTimeout):
			now := l.steps.Load()
			if now == seen {
				return false, nil
			}
			seen = now
		}
	}
}

// release gives a slot back.
func (l *limiter) release() {
	l.steps.Add(1)
	<-l.slots
}
