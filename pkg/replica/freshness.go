package replica

import (
	"sync/atomic"
	"time"
)

// freshness is when a partition was last known to be complete. It is safe for concurrent use; readers take no lock.
type freshness struct{ at atomic.Pointer[time.Time] }

// mark says that the data was complete at the time when the read that showed it was sent.
func (f *freshness) mark(sent time.Time) {
	for {
		old := f.at.Load()
		if old != nil && !sent.After(*old) || f.at.CompareAndSwap(old, &sent) {
			return
		}
	}
}

// age returns how long ago that was: the larger of what the monotonic and the wall clock say, since a machine that
// slept, or whose clock was set, must not pass for fresh. It is 0 before the first mark.
func (f *freshness) age(now time.Time) time.Duration {
	at := f.at.Load()
	if at == nil {
		return 0
	}
	return max(now.Sub(*at), now.Round(0).Sub(at.Round(0)), 0)
}

// reached tells whether the data is known to have been complete at a time or later.
func (f *freshness) reached(t time.Time) bool {
	at := f.at.Load()
	return at != nil && !at.Before(t)
}
