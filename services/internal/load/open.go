package load

import (
	"context"
	"time"
)

const (
	// maxOpenInFlight bounds the calls in flight of an open loop. A server with more will not catch up, so
	// further calls are counted as notSent.
	maxOpenInFlight = 1 << 16
	notSent         = "TOO_MANY_UNDER_WAY"
	// flushEvery is the number of due calls that are sent with one Flush.
	flushEvery = 64
	// nap is the longest sleep of a sender, so that it notices the end of its context.
	nap = 50 * time.Millisecond
)

// Open sends calls when a schedule says so, whether or not earlier calls are answered, until a limit is
// reached or ctx ends. The caller stays open.
//
// The latency of a call counts from when it was due. So the figures include the delays that a slow server or
// a late generator causes (no coordinated omission).
func Open(ctx context.Context, caller Caller, deck *Deck, limits Limits, schedule *Schedule) *Result {
	r := newRun(caller, deck)
	r.again = func(time.Duration) bool { return false }
	sleeper := newSleeper()
	defer sleeper.close()
	for n := uint64(0); ; n++ {
		due := schedule.Next()
		if limits.reached(n, due) || !awaitDue(ctx, r, sleeper, due) {
			break
		}
		if c := r.take(int(n), due); c != nil {
			caller.Start(c)
		}
		if n%flushEvery == flushEvery-1 {
			caller.Flush()
		}
	}
	caller.Flush()
	return r.finish()
}

// awaitDue sends the queued calls and returns when the next call is due; false when ctx has ended.
func awaitDue(ctx context.Context, r *run, sleeper *sleeper, due time.Duration) bool {
	flushed := false
	for {
		early := due - r.passed()
		if early <= 0 || ctx.Err() != nil {
			return ctx.Err() == nil
		}
		if !flushed {
			r.caller.Flush()
			flushed = true
			continue
		}
		sleeper.sleep(min(early, nap))
	}
}

// take returns a call for the next question; nil when too many calls are in flight.
func (r *run) take(slot int, due time.Duration) *Call {
	r.mu.Lock()
	defer r.mu.Unlock()
	keep(r.result.Late, r.passed()-due)
	if r.inFlight >= maxOpenInFlight {
		r.result.Errors[notSent]++
		return nil
	}
	r.sent++
	r.inFlight++
	c := &Call{run: r}
	if n := len(r.free); n > 0 {
		c, r.free = r.free[n-1], r.free[:n-1]
	}
	c.Slot, c.due, c.Question = slot, due, r.deck.take()
	return c
}
