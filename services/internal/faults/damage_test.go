package faults

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

const (
	unseen      = "verify finds nothing wrong with a store that was damaged"
	notRepaired = "what was damaged could not be made good"
)

// damage is a time in which a record of the store was not what it should be.
type damage struct {
	what string
	// partition is the one it is in, or everyPartition.
	partition int
	from      moment
	// until is when everything was as it should be; 0 while it is not.
	until moment
}

// spoilKey damages a key in some way of a family. Validators decide from their last good data meanwhile, or not at all; then
// an operator does what the runbook says, unless the store is made good by itself before.
func spoilKey(family []spoiling) func(context.Context, *trouble, *rand.Rand) error {
	return func(ctx context.Context, c *trouble, r *rand.Rand) error {
		if c.oracle.lacking() || c.topology.whole() != nil || !c.operator.prepared() {
			return errNotNow
		}
		t, how, err := c.choose(ctx, family, r)
		if err != nil {
			return err
		}
		c.note("%s of %s: %s", t.name, t.node.name, how.name)
		d := &damage{what: t.name + ": " + how.name, partition: t.partition, from: c.oracle.now()}
		c.oracle.damage(d)
		began := c.lives()
		if err := how.do(ctx, t.node.direct, t.name, r); err != nil {
			c.oracle.repaired(d)
			return err
		}
		left := t.node.direct.Dump(ctx, t.name).Val()
		pause(ctx, upTo(r, 4*time.Second))
		ctx = context.WithoutCancel(ctx) // nobody leaves a store like that
		c.makeGood(ctx, t, d, left, isType(how))
		for i, s := range c.seats {
			if now := s.now.Load(); now != nil && now.life != began[len(c.authorities)+i] {
				c.settling.Go(func() { c.outlive(ctx, now) })
			}
		}
		return nil
	}
}

// outlive counts a validator that was started while a record was damaged, if it becomes ready.
func (c *campaign) outlive(ctx context.Context, now *sitting) {
	for until := time.Now().Add(wholeBound / 4); time.Now().Before(until); pause(ctx, lookInterval) {
		if now.ready.Load() != 0 {
			c.stats.reach(damageOutlived)
			return
		}
	}
}

func isType(how spoiling) bool {
	return slices.ContainsFunc(wrongTypes, func(s spoiling) bool { return s.name == how.name })
}

// choose returns a key and a way to damage it.
func (c *campaign) choose(ctx context.Context, family []spoiling, r *rand.Rand) (target, spoiling, error) {
	for range 20 {
		t, err := c.target(ctx, r)
		if err != nil {
			return t, spoiling{}, err
		}
		fitting := slices.DeleteFunc(slices.Clone(family), func(s spoiling) bool { return !slices.Contains(s.kinds, t.kind) })
		if len(fitting) > 0 {
			return t, oneOf(r, fitting), nil
		}
	}
	return target{}, spoiling{}, errNotNow
}

// makeGood waits until the store verifies again, and has an operator restore it when it does not by itself.
func (c *trouble) makeGood(ctx context.Context, t target, d *damage, left string, wrongType bool) {
	defer c.oracle.repaired(d)
	began := c.oracle.now()
	seen, restored := false, 0
	for {
		verified, err := c.operator.verify(ctx)
		if err == nil && len(verified.Findings) == 0 {
			still := t.node.direct.Dump(ctx, t.name).Val() == left
			if still && !seen && !strings.Contains(t.name, ":request:") {
				c.oracle.violate(unseen, c.oracle.now(), "%s", d.what)
			}
			break
		}
		seen = true
		switch waited := time.Duration(c.oracle.now() - began); {
		case restored == 3:
			c.oracle.violate(notRepaired, c.oracle.now(), "%s: %v, %d findings: %v", d.what, err, len(verified.Findings), first(verified.Findings))
			_ = t.node.direct.Del(ctx, t.name).Err()
			_ = c.operator.restore(ctx, c.campaign, c.oracle.now())
			c.stats.reach(damageSeen)
			return
		case waited > operatorPatience:
			restored++
			if err := c.operator.restore(ctx, c.campaign, c.oracle.now()); err != nil {
				c.note("restore: %v", err)
			}
		default:
			pause(ctx, time.Second)
		}
	}
	if seen {
		c.stats.reach(damageSeen)
	}
	switch {
	case restored > 0 && wrongType:
		c.stats.reach(wrongRepaired)
	case restored > 0:
		c.stats.reach(damageRepaired)
	case seen:
		c.stats.reach(damageHealed)
	}
}

func first[T any](all []T) any {
	if len(all) == 0 {
		return "none"
	}
	return all[0]
}

// damage notes that a record is not what it should be from now on.
func (o *oracle) damage(d *damage) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.damages = append(o.damages, d)
}

// repaired notes that everything is as it should be again.
func (o *oracle) repaired(d *damage) {
	o.mu.Lock()
	defer o.mu.Unlock()
	d.until = o.now()
}

// damaged tells whether a partition was damaged at a time or later.
func (o *oracle) damaged(partition int, since moment) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.ContainsFunc(o.damages, func(d *damage) bool {
		return (d.partition == partition || d.partition == everyPartition) && (d.until == 0 || d.until > since)
	})
}
