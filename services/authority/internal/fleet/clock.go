package fleet

import (
	"time"

	"github.com/countersign/countersign/pkg/clockskew"
	"github.com/countersign/countersign/pkg/record"
)

const (
	// clockSpan is how long the least delayed report counts at least; twice that at most.
	clockSpan = 5 * time.Second
	// clockStep is how much more or less the time of day may go on than the monotonic clock before it was
	// set.
	clockStep = 100 * time.Millisecond
)

// clock is how far a validator's time of day is ahead of this authority's, by what its reports have shown.
// A report is under way for some time, which makes the validator look further behind than it is. So the
// report that shows it furthest ahead is the least wrong. The zero value has seen nothing.
type clock struct {
	latest record.Clock
	heard  time.Time
	// began is when the present span began. Best are the greatest lead in it and in the span before it, if
	// known.
	began time.Time
	best  [2]time.Duration
	known [2]bool
}

// remember notes a reading whose way may have taken any time: it tells nothing, but that the validator
// tells its time.
func (c *clock) remember(r record.Clock) { c.latest = r }

// see takes in a reading of the present instance that may have been on its way for any time. When it shows
// that the time of day was set since the latest report, the skew is unknown until the next report.
func (c *clock) see(r record.Clock) {
	switch {
	case r.Wall.IsZero():
	case c.latest.Wall.IsZero():
		c.remember(r)
	case r.Monotonic > c.latest.Monotonic && c.went(r).Abs() > clockStep:
		c.known = [2]bool{}
	}
}

// read takes in the reading of a report that has just arrived, at a time that time.Now has returned. One
// that is not newer than the latest tells nothing.
func (c *clock) read(r record.Clock, now time.Time) {
	if r.Wall.IsZero() || !c.latest.Wall.IsZero() && r.Monotonic <= c.latest.Monotonic {
		return
	}
	if c.set(r, now) {
		c.known = [2]bool{}
	}
	if now.Sub(c.began) >= clockSpan {
		c.best, c.known, c.began = [2]time.Duration{0, c.best[0]}, [2]bool{false, c.known[0]}, now
	}
	if ahead := r.Wall.Sub(now.Round(0)); !c.known[0] || ahead > c.best[0] {
		c.best[0], c.known[0] = ahead, true
	}
	c.latest, c.heard = r, now
}

// set tells whether the validator's time of day, or this authority's, was set since the latest reading.
func (c *clock) set(r record.Clock, now time.Time) bool {
	if c.heard.IsZero() {
		return false
	}
	ours := now.Round(0).Sub(c.heard.Round(0)) - now.Sub(c.heard)
	return c.went(r).Abs() > clockStep || ours.Abs() > clockStep
}

// went returns how much more the validator's time of day has gone on than its monotonic clock, since the
// latest reading.
func (c *clock) went(r record.Clock) time.Duration {
	return r.Wall.Sub(c.latest.Wall) - (r.Monotonic - c.latest.Monotonic)
}

// skew returns how far the validator is ahead; false while that is not known.
func (c *clock) skew() (ahead time.Duration, known bool) {
	for i, best := range c.best {
		if c.known[i] && (!known || best > ahead) {
			ahead, known = best, true
		}
	}
	return ahead, known
}

// state judges a validator that has a change which becomes something else by itself, at a time at the
// latest; the zero time is that it never does. One that tells nothing of its time is not judged. Of one
// whose skew is not known, nobody knows whether the time has come there, although it has here.
func (c *clock) state(turn, now time.Time, silent bool) State {
	ahead, known := c.skew()
	switch {
	case c.latest.Wall.IsZero(), turn.IsZero(), known && !now.Add(min(ahead, 0)).Before(turn):
		return Applied
	case !known && silent:
		return Lost
	case !known:
		return Pending
	case ahead.Abs() > clockskew.Max:
		return Skewed
	}
	return Applied
}

// sayClock says in the log that the clock of a member which reports here is off, or is so no more. The
// caller holds the mutex.
func (r *Registry) sayClock(m *member, now time.Time) {
	ahead, known := m.clock.skew()
	if !known {
		return
	}
	switch warn, over := m.alarm.Check(ahead, now); {
	case warn:
		r.log.Warn("a validator's time of day is not this authority's: tokens expire and trials end early or late there; set the clock (NTP) of the one that is wrong",
			"validator", m.ID, "clock", clockskew.Words(ahead))
	case over:
		r.log.Info("a validator's time of day is this authority's again", "validator", m.ID)
	}
}
