package replica

import (
	"sync/atomic"
	"time"
)

const (
	// StaleAfter is the greatest age of fresh data.
	StaleAfter = 2 * time.Second
	// maxClockJump is how far the monotonic and the wall clock may diverge before neither is trusted.
	maxClockJump = time.Second
)

// stamp is one moment by two clocks. A zero field says nothing about its clock: for a moment before the
// process was started only the wall time is known.
type stamp struct{ mono, wall time.Time }

// elapsed returns how long ago a moment was: the larger of what the two clocks say, because data must not
// look fresh after the machine slept or its clock was set. jumped says that the clocks disagree.
func elapsed(at, now stamp) (age time.Duration, jumped bool) {
	wall := now.wall.Sub(at.wall)
	if at.mono.IsZero() {
		// Without a second clock, a moment in the future counts as equally far in the past.
		return max(wall, -wall), wall < 0
	}
	mono := now.mono.Sub(at.mono)
	apart := wall - mono
	return max(mono, wall, 0), max(apart, -apart) > maxClockJump
}

// freshness is when a partition was last known to be complete. It is safe for concurrent use. Readers take no
// lock.
type freshness struct{ at atomic.Pointer[stamp] }

// mark records that the data was complete when a read was sent.
func (f *freshness) mark(sent stamp) {
	for {
		old := f.at.Load()
		if old != nil && !old.mono.IsZero() && !sent.mono.After(old.mono) || f.at.CompareAndSwap(old, &sent) {
			return
		}
	}
}

// recall records that the data was complete at a time before the process was started.
func (f *freshness) recall(wall time.Time) { f.at.Store(&stamp{wall: wall.Round(0)}) }

// age returns how long ago the data was complete, and whether the clocks disagree about it. The age is 0
// before the first mark.
func (f *freshness) age(now stamp) (age time.Duration, jumped bool) {
	at := f.at.Load()
	if at == nil {
		return 0, false
	}
	return elapsed(*at, now)
}

// reached reports whether the data is known to have been complete at t or later. For the zero time it reports
// whether the data was ever known to be complete in this process's life.
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
