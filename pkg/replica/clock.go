package replica

import "time"

// WallClock tells the time of day; nil is the machine's clock. Tests give a process one of its own, which
// may be wrong and may jump. How long something takes is measured by the machine's monotonic clock,
// whatever the WallClock says.
type WallClock func() time.Time

// At returns what the clock shows at a moment that time.Now has returned, without a reading of the
// monotonic clock.
func (c WallClock) At(now time.Time) time.Time {
	if c == nil {
		return now.Round(0)
	}
	return now.Add(time.Until(c())).Round(0)
}

// Since returns how long before now a moment was: by the monotonic clock, or by this one for a moment of
// another process.
func (c WallClock) Since(at, now time.Time) time.Duration {
	if at == at.Round(0) { // == tells whether there is a reading of the monotonic clock; Equal does not
		return c.At(now).Sub(at)
	}
	return now.Sub(at)
}

// SetWallClock gives the replica another wall clock than the machine's. It is for tests, and must be called
// before Import and Run.
func (r *Replica) SetWallClock(clock WallClock) { r.clock = clock }

// stamp returns a moment that time.Now has returned, by both clocks.
func (r *Replica) stamp(now time.Time) stamp { return stamp{mono: now, wall: r.clock.At(now)} }
