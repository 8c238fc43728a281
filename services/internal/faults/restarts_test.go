package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const notKept = "a Redis that was started again does not have all that it had acknowledged"

// restartAll ends all servers of a group and starts them again over what they have on their disks. Nobody reaches them
// before it is known what they have, so that nothing is made good unseen.
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

// tearLog kills a master and cuts the end off its append-only file: what it had acknowledged last is lost, also for its
// replicas, which take what it has. The file may end within a transaction.
func tearLog(ctx context.Context, c *trouble, r *rand.Rand) error {
	err := c.killAndLose(ctx, "append-only file torn", tornLost, r, func(n *node) (func() error, error) {
		path, err := n.appendOnlyFile()
		if err != nil {
			return nil, err
		}
		kept, err := os.Stat(path) // what is acknowledged by now is in it
		if err != nil {
			return nil, err
		}
		return func() error {
			full, err := os.Stat(path)
			if err != nil || full.Size() <= kept.Size() {
				return errors.Join(err, errNotNow)
			}
			return os.Truncate(path, kept.Size()+r.Int64N(full.Size()-kept.Size()))
		}, nil
	})
	if err != nil {
		return err
	}
	// Redis may have replayed half of a transaction: then the partition does not add up.
	d := &damage{what: "torn append-only file", partition: everyPartition, from: c.oracle.now()}
	c.oracle.damage(d)
	defer c.oracle.repaired(d)
	used := c.makeGood(context.WithoutCancel(ctx), d.what, r, func() bool { return false })
	if used == byMending || used == byRestoring {
		c.stats.reach(tornMended)
	}
	return nil
}

// killSnapshot kills a server that keeps snapshots only: it comes back with the latest.
func killSnapshot(ctx context.Context, c *trouble, r *rand.Rand) error {
	return c.killAndLose(ctx, "killed, and back at its latest snapshot", snapshotLost, r, func(n *node) (func() error, error) {
		return func() error { return nil }, n.direct.Save(ctx).Err()
	})
}

// killAndLose kills a master that may lose, by what spoil returns, everything after the call of spoil. Lost is what
// is counted when it did.
func (c *trouble) killAndLose(ctx context.Context, what, lost string, r *rand.Rand, spoil func(*node) (func() error, error)) error {
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
	pause(ctx, upTo(r, 700*time.Millisecond))
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

// appendOnlyFile returns the file that a server appends to now (Redis, Persistence: multi-part append-only files).
func (n *node) appendOnlyFile() (string, error) {
	folder := filepath.Join(n.server.Dir(), dataFolder)
	manifest, err := os.ReadFile(filepath.Join(folder, "appendonly.aof.manifest"))
	if err != nil {
		return "", err
	}
	path := ""
	for line := range strings.Lines(string(manifest)) {
		if words := strings.Fields(line); len(words) >= 6 && words[5] == "i" {
			path = filepath.Join(folder, words[1])
		}
	}
	if path == "" {
		return "", fmt.Errorf("the manifest names no file that is appended to: %s", manifest)
	}
	return path, nil
}
