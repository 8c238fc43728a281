// Package clockskew judges the difference between two machines' clocks. This package is not part of the
// public API and may change in any release.
package clockskew

import "time"

// Max is how far a validator's time of day may be from its authority's. Beyond it both log a warning, and the
// receipt of a change that takes effect at a time names the validator.
const Max = time.Second

// pause is the least time between two warnings about one clock.
const pause = time.Minute

// Words formats how far a clock is ahead of another one or behind it, such as "5m0s behind". It rounds to
// milliseconds, and from 10 s on to seconds.
func Words(ahead time.Duration) string {
	unit := time.Millisecond
	if ahead.Abs() >= 10*time.Second {
		unit = time.Second
	}
	if ahead < 0 {
		return ahead.Abs().Round(unit).String() + " behind"
	}
	return ahead.Round(unit).String() + " ahead"
}

// Alarm decides when to log that a clock is off: at most once a minute. The zero value is ready. It is not
// safe for concurrent use.
type Alarm struct {
	off    bool
	warned time.Time
}

// Check takes a new measurement. It returns warn when the clock is off and no warning was due in the last
// minute, and over when the clock is right again after a warning.
func (a *Alarm) Check(ahead time.Duration, now time.Time) (warn, over bool) {
	if ahead.Abs() <= Max {
		over, a.off = a.off, false
		return false, over
	}
	if !a.warned.IsZero() && now.Sub(a.warned) < pause {
		return false, false
	}
	a.off, a.warned = true, now
	return true, false
}
