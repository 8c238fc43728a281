package faults

import (
	"context"
	"math/rand/v2"
	"time"
)

// crash kills an authority at a random moment after a change was sent to it, and restarts it.
func crash(ctx context.Context, c *trouble, r *rand.Rand) error {
	a := oneOf(r, c.authorities)
	calls := a.calls.Load()
	for until := time.Now().Add(2 * time.Second); a.calls.Load() == calls && time.Now().Before(until) && ctx.Err() == nil; {
		time.Sleep(50 * time.Microsecond)
	}
	time.Sleep(time.Duration(r.IntN(4000)) * time.Microsecond)
	return c.restart(ctx, a, r)
}

// crashWithoutReply kills an authority while the network holds back the store's replies to it.
func crashWithoutReply(ctx context.Context, c *trouble, r *rand.Rand) error {
	n := oneOf(r, c.topology.groups).current()
	if !n.busy.TryLock() {
		return errNotNow
	}
	defer n.busy.Unlock()
	n.proxy.SwallowReplies()
	defer n.proxy.Restore()
	pause(ctx, upTo(r, 300*time.Millisecond))
	return c.restart(ctx, oneOf(r, c.authorities), r)
}

func killAuthority(ctx context.Context, c *trouble, r *rand.Rand) error {
	return c.restart(ctx, oneOf(r, c.authorities), r)
}

func (c *trouble) restart(ctx context.Context, a *authority, r *rand.Rand) error {
	if !a.kill() {
		return errNotNow
	}
	c.note("%s", a.name)
	if r.IntN(3) > 0 {
		pause(ctx, upTo(r, 3*time.Second))
	}
	return a.start()
}

// stopValidator suspends a validator for longer than a lease, or shorter, and resumes it with its old data.
func stopValidator(ctx context.Context, c *trouble, r *rand.Rand) error {
	if c.options.processes == 0 {
		return errNotNow
	}
	s := oneOf(r, c.seats[c.options.validators:])
	if now := s.now.Load(); now == nil || now.ready.Load() == 0 {
		return errNotNow
	}
	c.note("%s", s.id)
	resume := s.stop(c.oracle)
	// In half of the cases the lease ends, and then a change has time to get older than the staleness bound.
	pause(ctx, upTo(r, 20*time.Second))
	resume()
	return nil
}

func restartValidator(ctx context.Context, c *trouble, r *rand.Rand) error {
	s := oneOf(r, c.seats)
	c.note("%s", s.id)
	s.leave()
	pause(ctx, upTo(r, 500*time.Millisecond))
	return s.start(c.oracle)
}
