package replica

import "time"

// WallClock returns the time of day; nil is the machine's clock. A test may give a process a clock that is
// wrong or jumps. Durations are always measured by the machine's monotonic clock.
type WallClock func() time.Time

// At returns what the clock shows at now, a result of time.Now. It strips the monotonic reading.
func (c WallClock) At(now time.Time) time.Time {
	if c == nil {
		return now.Round(0)
	}
	return now.Add(time.Until(c())).Round(0)
}

// Since returns now minus at: by the monotonic clock, or by this clock when at has no monotonic reading,
// because it came from another process.
func (c WallClock) Since(at, now time.Time) time.Duration {
	if at == at.Round(0) { // == sees whether at has a monotonic reading; Equal does not
		return c.At(now).Sub(at)
	}
	return now.Sub(at)
}

// SetWallClock replaces the machine's wall clock. It is for tests, and must be called before Import and Run.
func (r *Replica) SetWallClock(clock WallClock) { r.clock = clock }

// stamp returns now, a result of time.Now, by both clocks.
func (r *Replica) stamp(now time.Time) stamp { return stamp{mono: now, wall: r.clock.At(now)} }
