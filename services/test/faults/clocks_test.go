package faults

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// clockJump is how far the clock of a validator is set forward or back.
const clockJump = 5 * time.Minute

// endedAtOnce is the expiry of a token that a change ended at once, independent of any clock (B08).
const endedAtOnce = policy.Ended

// clock is the wall clock of one validator, which may be wrong.
type clock struct{ settings atomic.Pointer[[]setClock] }

// setClock is one setting of a clock: from a moment on, the clock is ahead by a given time.
type setClock struct {
	from  moment
	ahead time.Duration
}

func (c *clock) all() []setClock {
	if all := c.settings.Load(); all != nil {
		return *all
	}
	return []setClock{{}}
}

// now returns the validator's time.
func (c *clock) now() time.Time { all := c.all(); return time.Now().Add(all[len(all)-1].ahead) }

// ahead returns how far the clock is ahead, and since when.
func (c *clock) ahead() setClock { all := c.all(); return all[len(all)-1] }

func (c *clock) set(o *oracle, ahead time.Duration) {
	all := append(slices.Clone(c.all()), setClock{o.now(), ahead})
	c.settings.Store(&all)
}

// between returns the least and the most that the clock may have been ahead in an interval.
func (c *clock) between(from, to moment) (least, most time.Duration) {
	all := c.all()
	const slow = moment(50 * time.Millisecond) // from reading the clock to setting it
	found := false
	for i, s := range all {
		if s.from > to || i+1 < len(all) && all[i+1].from+slow < from {
			continue
		}
		if !found {
			least, most, found = s.ahead, s.ahead, true
		}
		least, most = min(least, s.ahead), max(most, s.ahead)
	}
	return least, most
}

// jumpClock makes the clock of a validator wrong for a while. In between it may set the clock wrong in the
// other direction.
func jumpClock(ctx context.Context, c *trouble, r *rand.Rand) error {
	s := oneOf(r, c.seats[:c.options.validators])
	ahead := oneOf(r, []time.Duration{-clockJump, clockJump})
	c.note("%s %s", s.id, ahead)
	s.clock.set(c.oracle, ahead)
	defer s.clock.set(c.oracle, 0)
	pause(ctx, upTo(r, 12*time.Second))
	if r.IntN(3) == 0 {
		s.clock.set(c.oracle, -ahead)
		pause(ctx, upTo(r, 4*time.Second))
	}
	return nil
}

// turned reports whether a verdict on a token, which may be nil, contradicts the correct time.
func (t *token) turned(verdict policy.Reason, millis int64) bool {
	if t == nil {
		return false
	}
	switch e := t.expiry.last().value; verdict {
	case policy.TokenExpired:
		return e.from > millis
	case policy.TokenValid, policy.TokenValidUnscoped:
		return e.to > 0 && e.to < millis
	}
	return false
}

const skewIgnored = "a receipt says that a validator whose clock is off has a change that depends on time"

// skewSeen is how long a report may be on its way. A report that arrives later after a clock was set has read
// the new clock.
const skewSeen = 3 * time.Second

// judgeTurn judges the receipt of a change that takes effect by itself at a time, or later. A change that was
// committed after that time has ended something at once, independent of any clock.
func (c *campaign) judgeTurn(got *countersignv1.Receipt, turn time.Time) {
	committed := got.GetCommitTime()
	if committed != nil && !committed.AsTime().Before(turn) {
		return
	}
	for _, entry := range got.GetValidators() {
		s := c.seatOf(entry.GetValidatorId())
		if s == nil {
			continue
		}
		now, set := c.oracle.now(), s.clock.ahead()
		switch entry.GetState() {
		case clockSkewed:
			c.stats.reach(skewNamed)
		case countersignv1.PropagationState_PROPAGATION_STATE_APPLIED:
			arrived := now - moment(time.Since(entry.GetReportTime().AsTime()))
			known := set.ahead != 0 && arrived-set.from > moment(skewSeen)
			if known && time.Now().Add(min(set.ahead, 0)).Before(turn) {
				c.oracle.violate(skewIgnored, now, "%s is %s ahead since %s; it turns at %s, and was committed at %s", s.id, set.ahead,
					set.from, turn, committed.AsTime())
			}
		}
	}
}

const clockSkewed = countersignv1.PropagationState_PROPAGATION_STATE_CLOCK_SKEWED
