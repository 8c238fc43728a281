package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/countersign/countersign/deploy/redisacl"
	"github.com/countersign/countersign/pkg/testkit/redistest"
)

// onMasters runs a command on the master of every group.
func (c *campaign) onMasters(ctx context.Context, args ...any) error {
	var errs []error
	for _, g := range c.topology.groups {
		errs = append(errs, g.current().direct.Do(ctx, args...).Err())
	}
	return errors.Join(errs...)
}

// away suspends or kills a node with a signal, and brings the node back after a while.
func (c *trouble) away(ctx context.Context, n *node, longest time.Duration, r *rand.Rand, stop, start func()) error {
	if !n.busy.TryLock() {
		return errNotNow
	}
	defer n.busy.Unlock()
	c.note("%s", n.name)
	stop()
	pause(ctx, upTo(r, longest))
	start()
	return nil
}

func killSentinel(ctx context.Context, c *trouble, r *rand.Rand) error {
	n := oneOf(r, c.topology.sentinels)
	return c.away(ctx, n, 4*time.Second, r, n.server.Stop, n.server.Restart)
}

func killMaster(ctx context.Context, c *trouble, r *rand.Rand) error {
	n := oneOf(r, c.topology.groups).current()
	return c.away(ctx, n, 6*time.Second, r, n.server.Stop, n.server.Restart)
}

func killReplica(ctx context.Context, c *trouble, r *rand.Rand) error {
	g := oneOf(r, c.topology.groups)
	n := oneOf(r, g.replicas())
	return c.away(ctx, n, 6*time.Second, r, n.server.Stop, n.server.Restart)
}

func stopMaster(ctx context.Context, c *trouble, r *rand.Rand) error {
	n := oneOf(r, c.topology.groups).current()
	return c.away(ctx, n, 6*time.Second, r, n.server.Pause, n.server.Resume)
}

func (g *group) replicas() []*node {
	return slices.DeleteFunc(slices.Clone(g.nodes), func(n *node) bool { return n == g.current() })
}

// failover promotes a replica while nothing is wrong.
func failover(ctx context.Context, c *trouble, r *rand.Rand) error {
	g := oneOf(r, c.topology.groups)
	n := oneOf(r, g.replicas())
	c.note("%s", g.current().name)
	if c.topology.cluster != nil {
		return n.direct.Do(ctx, "CLUSTER", "FAILOVER").Err()
	}
	return oneOf(r, c.topology.sentinels).direct.Do(ctx, "SENTINEL", "FAILOVER", redistest.MasterName).Err()
}

// losingFailover cuts a master off from its replicas while it acknowledges changes, and then kills it: a
// replica without these changes is promoted.
func losingFailover(ctx context.Context, c *trouble, r *rand.Rand) error {
	g := oneOf(r, c.topology.groups)
	n := g.current()
	if !n.busy.TryLock() {
		return errNotNow
	}
	defer n.busy.Unlock()
	c.note("%s", n.name)
	replicas := g.replicas()
	credentials := func(ctx context.Context, user, password string) {
		for _, replica := range replicas {
			_ = replica.direct.Do(ctx, "CONFIG", "SET", "masteruser", user, "masterauth", password).Err()
			_ = replica.direct.Do(ctx, "CONFIG", "REWRITE").Err() // a sentinel may have made it store the wrong credentials
		}
	}
	credentials(ctx, "nobody", "nothing") // from here on, the master rejects these credentials
	_ = n.direct.Do(ctx, "CLIENT", "KILL", "TYPE", "replica").Err()
	pause(ctx, upTo(r, 1500*time.Millisecond))
	n.server.Stop()
	for until := time.Now().Add(15 * time.Second); g.current() == n && time.Now().Before(until) && ctx.Err() == nil; {
		pause(ctx, pollInterval)
	}
	credentials(context.WithoutCancel(ctx), redisacl.Replica, redisacl.Replica)
	pause(ctx, upTo(r, 3*time.Second))
	n.server.Restart()
	return nil
}

const noRevocation = "a revocation failed while Redis was out of memory"

// outOfMemory limits the memory of the masters for a while, so that they reject most writes. Revocations must
// still succeed.
func outOfMemory(ctx context.Context, c *trouble, r *rand.Rand) error {
	w := &writer{campaign: c.campaign, name: fmt.Sprint("oom", r.Uint32()), random: r}
	a := w.oracle.newApp(w.next("app-"))
	a.mu.Lock()
	defer a.mu.Unlock()
	w.create(ctx, a)
	if err := c.onMasters(ctx, "CONFIG", "SET", "maxmemory", "1"); err != nil {
		return err
	}
	alone, began := c.alone(), time.Now()
	for _, t := range a.list() {
		w.revoke(ctx, t)
		if last := t.state.last(); alone && c.alone() && (last.acked == 0 || time.Since(began) > callTimeout) {
			c.oracle.violate(noRevocation, c.oracle.now(), "after %s: %s", time.Since(began), history(t.state))
		}
	}
	pause(ctx, upTo(r, 3*time.Second))
	for _, n := range c.topology.nodes() {
		_ = n.direct.ConfigSet(context.WithoutCancel(ctx), "maxmemory", "0").Err() // a restarted server has forgotten the setting
	}
	return nil
}
