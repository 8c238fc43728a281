package faults

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/testkit/redistest"
)

// onProxy disturbs the network of one node for a while.
func onProxy(spoil func(*redistest.Proxy, *rand.Rand), longest time.Duration) func(context.Context, *trouble,
	*rand.Rand) error {
	return func(ctx context.Context, c *trouble, r *rand.Rand) error {
		n := oneOf(r, append(c.topology.nodes(), c.topology.sentinels...))
		if r.IntN(2) == 0 { // a fault at a master does the most harm
			n = oneOf(r, c.topology.groups).current()
		}
		if !n.busy.TryLock() {
			return errNotNow
		}
		defer n.busy.Unlock()
		c.note("%s", n.name)
		spoil(n.proxy, r)
		if longest > 0 {
			pause(ctx, upTo(r, longest))
		}
		n.proxy.Restore()
		return nil
	}
}

// dropHints ends all subscriptions, several times in a row. Hints that are published meanwhile are lost.
func dropHints(ctx context.Context, c *trouble, r *rand.Rand) error {
	for range 1 + r.IntN(10) {
		for _, n := range c.topology.nodes() {
			_ = n.direct.Do(ctx, "CLIENT", "KILL", "TYPE", "pubsub").Err() // the server may be down
		}
		pause(ctx, upTo(r, 100*time.Millisecond))
	}
	return nil
}

// repeatHints publishes links again that were published before.
func repeatHints(ctx context.Context, c *trouble, r *rand.Rand) error {
	for range 1 + r.IntN(20) {
		partition := r.IntN(c.codec.Partitions())
		keys := record.KeysOf(partition)
		for _, g := range c.topology.groups {
			n := g.current()
			links, err := n.direct.XRevRangeN(ctx, keys.Log, "+", "-", 1+r.Int64N(50)).Result()
			if err != nil || len(links) == 0 {
				continue
			}
			if link, ok := links[len(links)-1].Values[redisfeed.LinkField].(string); ok {
				_ = n.direct.Publish(ctx, keys.Hint, link).Err()
			}
		}
	}
	return nil
}

// trimLog drops most of the log of some partitions.
func trimLog(ctx context.Context, c *trouble, r *rand.Rand) error {
	for range 1 + r.IntN(8) {
		keys := record.KeysOf(r.IntN(c.codec.Partitions()))
		left := 1 + r.Int64N(4)
		for _, g := range c.topology.groups {
			_ = g.current().direct.XTrimMaxLen(ctx, keys.Log, left).Err() // another master may own the slot
		}
	}
	return nil
}

// cutValidator takes one validator's right to connect away for a while.
func cutValidator(ctx context.Context, c *trouble, r *rand.Rand) error {
	s := oneOf(r, c.seats)
	user := validatorUser(s.number)
	c.note("%s", s.id)
	set := func(ctx context.Context, state string) {
		for _, n := range c.topology.nodes() {
			_ = n.direct.Do(ctx, "ACL", "SETUSER", user, state).Err() // a server that is down comes back with all rights
			_ = n.direct.Do(ctx, "CLIENT", "KILL", "USER", user).Err()
		}
	}
	set(ctx, "off")
	for until := time.Now().Add(upTo(r, 10*time.Second)); ctx.Err() == nil && time.Now().Before(until); {
		pause(ctx, 500*time.Millisecond)
		set(ctx, "off")
	}
	for range 3 { // a suspended server may miss a command
		set(context.WithoutCancel(ctx), "on")
		pause(ctx, time.Second)
	}
	return nil
}
