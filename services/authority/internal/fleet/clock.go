package fleet

import (
	"time"

	"github.com/countersign/countersign/pkg/clockskew"
	"github.com/countersign/countersign/pkg/record"
)

const (
	// clockSpan is the length of a span. The skew comes from the present span and the one before, so the
	// least delayed report counts for one to two spans.
	clockSpan = 5 * time.Second
	// clockStep decides when a wall clock counts as set: when its advance between two readings differs by
	// more than clockStep from the advance of the monotonic clock.
	clockStep = 100 * time.Millisecond
)

// clock measures, from a validator's reports, how far its wall clock is ahead of this authority's clock. The
// delay of a report makes the validator's clock look further behind than it is. So the report with the
// greatest lead has the smallest error. The zero value has no reports.
type clock struct {
	// latest is the latest reading of the validator's clock. heard is when the latest report with a reading
	// arrived here; zero for none.
	latest record.Clock
	heard  time.Time
	// began is the start of the present span. best has the greatest lead of the present span, and of the span
	// before. known has, for each of the two, whether best holds a lead.
	began time.Time
	best  [2]time.Duration
	known [2]bool
}

// remember stores a reading that may have been delayed for any time. It shows only that the validator sends
// its time, and does not alter the skew.
func (c *clock) remember(r record.Clock) { c.latest = r }

// see checks a reading of the same instance that may have been delayed for any time. If it shows that the
// validator's wall clock was set since the latest reading, the skew is unknown until the next report.
func (c *clock) see(r record.Clock) {
	switch {
	case r.Wall.IsZero():
	case c.latest.Wall.IsZero():
		c.remember(r)
	case r.Monotonic > c.latest.Monotonic && c.drift(r).Abs() > clockStep:
		c.known = [2]bool{}
	}
}

// read adds the reading of a report that has just arrived. now comes from time.Now. A reading that is not
// newer than the latest is ignored.
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

// set reports whether the wall clock of the validator, or of this authority, was set since the latest
// reading.
func (c *clock) set(r record.Clock, now time.Time) bool {
	if c.heard.IsZero() {
		return false
	}
	ours := now.Round(0).Sub(c.heard.Round(0)) - now.Sub(c.heard)
	return c.drift(r).Abs() > clockStep || ours.Abs() > clockStep
}

// drift returns how much further the validator's wall clock has advanced than its monotonic clock since the
// latest reading.
func (c *clock) drift(r record.Clock) time.Duration {
	return r.Wall.Sub(c.latest.Wall) - (r.Monotonic - c.latest.Monotonic)
}

// skew returns how far the validator's clock is ahead; negative means behind. known is false before the first
// reading, and after a clock was set until the next reading.
func (c *clock) skew() (ahead time.Duration, known bool) {
	for i, best := range c.best {
		if c.known[i] && (!known || best > ahead) {
			ahead, known = best, true
		}
	}
	return ahead, known
}

// state returns the state of a validator that has shown a change. turn is the last time at which the clock
// alone alters the effect of the change; zero for none. silent is true when the validator's lease has
// expired.
//
// The change is Applied if it has no turn, or if turn has passed on both clocks. It is Applied too if the
// validator sends no time, since its clock cannot be checked. Otherwise a clock that is wrong by more than
// clockskew.Max is Skewed. While the skew is unknown, turn may not have passed on the validator's clock,
// although it has passed here. The state is then Pending, or Lost for a silent validator.
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

// logClock logs when the clock of a member that reports here becomes wrong, and when it is right again. The
// caller holds the mutex.
func (r *Registry) logClock(m *member, now time.Time) {
	ahead, known := m.clock.skew()
	if !known {
		return
	}
	switch warn, over := m.alarm.Check(ahead, now); {
	case warn:
		r.log.Warn("a validator's clock differs from this authority's: its tokens expire and its trials end early or late; "+
			"set the clock that is wrong (NTP)",
			"validator", m.ID, "clock", clockskew.Words(ahead))
	case over:
		r.log.Info("a validator's clock agrees with this authority's again", "validator", m.ID)
	}
}
