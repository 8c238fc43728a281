package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const notKept = "a restarted Redis lacks changes that it had acknowledged"

// restartAll stops all servers of a group and restarts them from their disks. No process can reach them until
// the campaign knows what they have lost. Otherwise a loss could be healed before the campaign sees it.
func restartAll(ctx context.Context, c *trouble, r *rand.Rand) error {
	g := oneOf(r, c.topology.groups)
	master := g.current()
	properly := r.IntN(2) == 0 || c.topology.kind == "rdb" // an rdb server keeps nothing if killed
	defer g.shut()()
	whole := func() bool { return !c.oracle.lacking() && g.current() == master }
	sound := whole()
	c.note("%s properly %t", g.name, properly)
	if err := g.end(ctx, properly); err != nil {
		return err
	}
	pause(ctx, upTo(r, time.Second))
	for _, n := range g.nodes {
		n.server.Restart()
	}
	gaps, err := c.gapsAt(ctx, master)
	if err != nil || !sound || !whole() {
		return err
	}
	for _, gap := range gaps {
		c.oracle.violate(notKept, c.oracle.now(), "%s, properly %t: %s", master.name, properly, gap.what)
	}
	c.stats.reach(restartFound)
	return nil
}

// shut makes the servers of a group unreachable, and returns the function that ends this.
func (g *group) shut() (open func()) {
	for _, n := range g.nodes {
		n.busy.Lock()
		n.proxy.Refuse()
	}
	return func() {
		for _, n := range g.nodes {
			n.proxy.Restore()
			n.busy.Unlock()
		}
	}
}

// end stops or kills all servers of a group at the same time.
func (g *group) end(ctx context.Context, properly bool) error {
	errs := make([]error, len(g.nodes))
	var ending sync.WaitGroup
	for i, n := range g.nodes {
		ending.Go(func() {
			if properly { // like SIGTERM; NOW does not wait for replicas, which are shut too
				err := n.direct.Do(ctx, "SHUTDOWN", "NOW").Err()
				if refused := redis.Error(nil); errors.As(err, &refused) {
					errs[i] = fmt.Errorf("%s does not shut down: %w", n.name, err)
				}
			}
			n.server.Stop()
		})
	}
	ending.Wait()
	return errors.Join(errs...)
}

// gapsAt returns the acknowledged changes that a server lacks in its partitions.
func (c *campaign) gapsAt(ctx context.Context, n *node) ([]gap, error) {
	var v *view
	var err error
	// the nodes of a cluster have to find each other
	for until := time.Now().Add(20 * time.Second); ; time.Sleep(pollInterval) {
		if v, err = lookAt(ctx, c.oracle, []*node{n}, c.codec); err == nil || time.Now().After(until) {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(c.oracle.gaps(v), func(g gap) bool { return !v.seen[c.codec.PartitionOf(g.app.id)] }), nil
}

// killSnapshot kills a server that persists only RDB snapshots. The server comes back with its latest
// snapshot.
func killSnapshot(ctx context.Context, c *trouble, r *rand.Rand) error {
	return c.killAndLose(ctx, "killed, and back at its latest snapshot", snapshotLost, r, func(n *node) (func() error, error) {
		return func() error { return nil }, n.direct.Save(ctx).Err()
	})
}

// killAndLose kills a master that may lose everything after the call of spoil, as spoil reports. Lost is the
// rare state that is counted when it did.
func (c *trouble) killAndLose(ctx context.Context, what, lost string, r *rand.Rand,
	spoil func(*node) (func() error, error),
) error {
	g := oneOf(r, c.topology.groups)
	n := g.current()
	if !n.busy.TryLock() {
		return errNotNow
	}
	defer n.busy.Unlock()
	c.note("%s", n.name)
	floor := c.oracle.now()
	lose, err := spoil(n)
	if err != nil {
		return err
	}
	if !c.changedAt(ctx, n, floor, 1+r.IntN(30)) {
		return errNotNow
	}
	n.server.Stop()
	n.proxy.Refuse()
	defer n.proxy.Restore()
	l := &loss{What: what + ": " + n.name, Floor: floor, From: c.oracle.now(), Whole: true}
	if err := lose(); err != nil {
		n.server.Restart()
		return err
	}
	c.oracle.open(l)
	defer c.healings.Go(func() { c.awaitHealed(context.WithoutCancel(ctx), l) })
	n.server.Restart()
	if gaps, err := c.gapsAt(ctx, n); err == nil && len(gaps) > 0 {
		c.note("%d gaps", len(gaps))
		c.stats.reach(lost)
	}
	return nil
}

// changedAt waits until a server has acknowledged some changes since a time. It returns false when the server
// did not within 10 s.
func (c *campaign) changedAt(ctx context.Context, n *node, since moment, some int) bool {
	v, err := lookAt(ctx, c.oracle, []*node{n}, c.codec)
	if err != nil {
		return false
	}
	has := func(a acknowledgement) bool { return a.sent > since && v.seen[c.codec.PartitionOf(a.app.id)] }
	for until := time.Now().Add(10 * time.Second); time.Now().Before(until) && ctx.Err() == nil; pause(ctx, pollInterval/10) {
		if c.stats.acknowledgedOf(has) >= some {
			return true
		}
	}
	return false
}
