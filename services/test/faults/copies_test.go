package faults

import (
	"context"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/countersign/countersign/pkg/record"
)

// lives returns how often each process was started.
func (c *campaign) lives() (all []int64) {
	for _, a := range c.authorities {
		all = append(all, a.lives.Load())
	}
	for _, s := range c.seats {
		if now := s.now.Load(); now != nil {
			all = append(all, now.life)
		} else {
			all = append(all, 0)
		}
	}
	return all
}

// wipe empties the store, or one shard of it.
func wipe(ctx context.Context, c *trouble, r *rand.Rand) error {
	return c.wipe(ctx, "wiped", r)
}

func (c *trouble) wipe(ctx context.Context, what string, r *rand.Rand) error {
	g := oneOf(r, c.topology.groups)
	c.note("%s", g.name)
	nothing := map[int]record.Head{}
	for partition := range c.codec.Partitions() {
		nothing[partition] = record.Head{}
	}
	l := &loss{What: what + ": " + g.name, held: c.holders(nothing), From: c.oracle.now(), Whole: true}
	c.oracle.open(l)
	err := g.current().direct.FlushAll(ctx).Err()
	c.healings.Go(func() { c.awaitHealed(context.WithoutCancel(ctx), l) })
	return err
}

// backup is a copy of the data folders of a group's servers.
type backup struct {
	folder string
	at     moment
}

// putBack replaces the data of a group's servers by an older copy.
func putBack(ctx context.Context, c *trouble, r *rand.Rand) error {
	i := r.IntN(len(c.topology.groups))
	g := c.topology.groups[i]
	kept := c.backups.get(g)
	if len(kept) == 0 {
		return errNotNow
	}
	b := oneOf(r, kept)
	for _, n := range g.nodes {
		n.busy.Lock()
		defer n.busy.Unlock()
	}
	c.note("%s as of %s", g.name, b.at)
	l := &loss{What: "older copy put back: " + g.name, Floor: b.at, From: c.oracle.now(), Whole: true}
	c.oracle.open(l)
	defer c.healings.Go(func() { c.awaitHealed(context.WithoutCancel(ctx), l) })
	for _, n := range g.nodes {
		n.server.Stop()
	}
	var errs []error
	for _, n := range g.nodes {
		errs = append(errs, n.put(b.folder))
	}
	for _, n := range g.nodes {
		n.server.Restart()
	}
	return errors.Join(errs...)
}

// backups holds a few copies of each group.
type backups struct {
	root   string
	serial int

	mu    sync.Mutex
	moves int
	kept  map[*group][]backup
}

func (b *backups) get(g *group) []backup { b.mu.Lock(); defer b.mu.Unlock(); return b.kept[g] }

// moved drops all copies, and also the copies that are being made.
func (b *backups) moved() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.moves++
	clear(b.kept)
}

const (
	backupInterval = 15 * time.Second
	backupsKept    = 4
)

// make takes a copy now and then, while the master has all acknowledged changes and no damaged key. The
// campaign would not notice damage that comes back with a copy.
func (b *backups) make(ctx context.Context, c *campaign) {
	for ; ctx.Err() == nil; pause(ctx, backupInterval) {
		for _, g := range c.topology.groups {
			b.copy(c, g)
		}
	}
}

func (b *backups) copy(c *campaign, g *group) {
	b.mu.Lock()
	moves := b.moves
	b.mu.Unlock()
	at, master := c.oracle.now(), g.current()
	if !c.soundSince(at) || !master.busy.TryLock() {
		return
	}
	b.serial++
	folder := filepath.Join(b.root, strconv.Itoa(b.serial))
	err := master.keep(folder)
	master.busy.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil || moves != b.moves || !c.soundSince(at) {
		return
	}
	b.kept[g] = append(b.kept[g], backup{folder, at})
	b.kept[g] = b.kept[g][max(0, len(b.kept[g])-backupsKept):]
}

// soundSince reports whether the store lacks no change, and no key has been damaged since a given time.
func (c *campaign) soundSince(at moment) bool {
	return c.topology.whole() == nil && !c.oracle.lacking() && !c.oracle.damaged(everyPartition, at)
}
