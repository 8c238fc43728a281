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

const notKept = "a Redis that was started again does not have all that it had acknowledged"

// restartAll ends all servers of a group and starts them again over what they have on their disks. Nobody
// reaches them before it is known what they have, so that nothing is made good unseen.
func restartAll(ctx context.Context, c *trouble, r *rand.Rand) error {
	g := oneOf(r, c.topology.groups)
	master := g.current()
	properly := r.IntN(2) == 0 || c.topology.kind == "rdb" // which keeps nothing when it is killed
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

// shut keeps everybody from reaching the servers of a group, and returns what lets them again.
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

// end ends all servers of a group at once.
func (g *group) end(ctx context.Context, properly bool) error {
	errs := make([]error, len(g.nodes))
	var ending sync.WaitGroup
	for i, n := range g.nodes {
		ending.Go(func() {
			if properly { // as SIGTERM does; NOW does not wait for replicas, which cannot come
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

// gapsAt returns what a server lacks, of the partitions that it has.
func (c *campaign) gapsAt(ctx context.Context, n *node) ([]gap, error) {
	var v *view
	var err error
	for until := time.Now().Add(20 * time.Second); ; time.Sleep(lookInterval) { // nodes of a cluster have to find together
		if v, err = lookAt(ctx, c.oracle, []*node{n}, c.codec); err == nil || time.Now().After(until) {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(c.oracle.gaps(v), func(g gap) bool { return !v.seen[c.codec.PartitionOf(g.app.id)] }), nil
}

// killSnapshot kills a server that keeps snapshots only: it comes back with the latest.
func killSnapshot(ctx context.Context, c *trouble, r *rand.Rand) error {
	return c.killAndLose(ctx, "killed, and back at its latest snapshot", snapshotLost, r, func(n *node) (func() error, error) {
		return func() error { return nil }, n.direct.Save(ctx).Err()
	})
}

// killAndLose kills a master that may lose, by what spoil returns, everything after the call of spoil. Lost
// is what is counted when it did.
func (c *trouble) killAndLose(ctx context.Context, what, lost string, r *rand.Rand,
	spoil func(*node) (func() error, error)) error {
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
	defer c.settling.Go(func() { c.settle(context.WithoutCancel(ctx), l) })
	n.server.Restart()
	if gaps, err := c.gapsAt(ctx, n); err == nil && len(gaps) > 0 {
		c.note("%d gaps", len(gaps))
		c.stats.reach(lost)
	}
	return nil
}

// changedAt waits until a server has acknowledged some changes since a time. False says that it did not, in
// 10 s.
func (c *campaign) changedAt(ctx context.Context, n *node, since moment, some int) bool {
	v, err := lookAt(ctx, c.oracle, []*node{n}, c.codec)
	if err != nil {
		return false
	}
	has := func(a acknowledgement) bool { return a.sent > since && v.seen[c.codec.PartitionOf(a.app.id)] }
	for until := time.Now().Add(10 * time.Second); time.Now().Before(until) && ctx.Err() == nil; pause(ctx, lookInterval/10) {
		if c.stats.acknowledgedOf(has) >= some {
			return true
		}
	}
	return false
}
