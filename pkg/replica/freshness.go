package replica

import (
	"sync/atomic"
	"time"
)

const (
	// StaleAfter is the age up to which data is fresh.
	StaleAfter = 2 * time.Second
	// maxClockJump is how far the monotonic and the wall clock may go apart before neither is trusted.
	maxClockJump = time.Second
)

// stamp is one moment by two clocks. It says nothing by a clock for which it is zero: a moment from before
// the process was started is known by the wall clock alone.
type stamp struct{ mono, wall time.Time }

// elapsed returns how long ago a moment was: the larger of what the two clocks say, since a machine that
// slept, or whose clock was set, must not pass for fresh. Jumped says that they disagree.
func elapsed(at, now stamp) (age time.Duration, jumped bool) {
	wall := now.wall.Sub(at.wall)
	if at.mono.IsZero() {
		// Without another clock a moment to come is as far off as it is ahead.
		return max(wall, -wall), wall < 0
	}
	mono := now.mono.Sub(at.mono)
	apart := wall - mono
	return max(mono, wall, 0), max(apart, -apart) > maxClockJump
}

// freshness is when a partition was last known to be complete. It is safe for concurrent use; readers take
// no lock.
type freshness struct{ at atomic.Pointer[stamp] }

// mark says that the data was complete at the time when the read that showed it was sent.
func (f *freshness) mark(sent stamp) {
	for {
		old := f.at.Load()
		if old != nil && !old.mono.IsZero() && !sent.mono.After(old.mono) || f.at.CompareAndSwap(old, &sent) {
			return
		}
	}
}

// recall says that the data was complete at a time before the process was started.
func (f *freshness) recall(wall time.Time) { f.at.Store(&stamp{wall: wall.Round(0)}) }

// age returns how long ago that was, 0 before the first mark, and whether the clocks disagree about it.
func (f *freshness) age(now stamp) (age time.Duration, jumped bool) {
	at := f.at.Load()
	if at == nil {
		return 0, false
	}
	return elapsed(*at, now)
}

// reached tells whether the data is known to have been complete at a time or later; the zero time is that
// of any.
func (f *freshness) reached(t time.Time) bool {
	at := f.at.Load()
	return at != nil && !at.mono.Before(t)
}

// last returns when the data was last known to be complete, by the wall clock; zero before the first mark.
func (f *freshness) last() time.Time {
	if at := f.at.Load(); at != nil {
		return at.wall
	}
	return time.Time{}
}
