package faults

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

const (
	unseen      = "verify finds no damage in a damaged store"
	notRepaired = "a damaged store could not be repaired"
)

// damage is an interval in which a key of the store was damaged.
type damage struct {
	what string
	// partition is the partition of the key; everyPartition for a key of the whole store.
	partition int
	from      moment
	// until is when the store verified again; 0 while it is damaged.
	until moment
	// hides reports whether the damage may hide changes of an app; nil when it hides none. Damage that puts
	// an older record back can hide changes: the old record has a valid signature, so a validator that has
	// not seen later records cannot detect it (SECURITY.md, old copies).
	hides func(appID string) bool
}

// spoilKey damages a random key in one of the ways of a family. While it is damaged, validators must decide
// from their last good data, or not decide. Then an operator follows the runbook, unless the store has
// repaired itself before.
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
		if slices.ContainsFunc(replayed, func(s spoiling) bool { return s.name == how.name }) {
			d.hides = func(appID string) bool {
				return t.partition == everyPartition || c.codec.PartitionOf(appID) == t.partition
			}
		}
		c.oracle.damage(d)
		began := c.lives()
		if err := how.do(ctx, t.node.direct, t.name, r); err != nil {
			c.oracle.repaired(d)
			return err
		}
		left := t.node.direct.Dump(ctx, t.name).Val()
		pause(ctx, upTo(r, 4*time.Second))
		ctx = context.WithoutCancel(ctx) // the end of the campaign must not leave the store damaged
		used := c.makeGood(ctx, d.what, r, func() bool {
			return !strings.Contains(t.name, ":request:") && t.node.aloneMaster(ctx) && t.node.direct.Dump(ctx, t.name).Val() == left
		})
		c.oracle.repaired(d)
		c.countRemedy(used, isType(how))
		for i, s := range c.seats {
			if now := s.now.Load(); now != nil && now.life != began[len(c.authorities)+i] {
				c.healings.Go(func() { c.outlive(ctx, now) })
			}
		}
		return nil
	}
}

// aloneMaster reports whether a server is the only master of its group. With two masters, clients may use the
// other one, and this server may have other content than the store.
func (n *node) aloneMaster(ctx context.Context) bool {
	for _, other := range n.group.nodes {
		role, err := other.direct.Do(ctx, "ROLE").Slice()
		if master := err == nil && len(role) > 0 && role[0] == "master"; master != (other == n) {
			return false
		}
	}
	return true
}

// outlive counts a validator that was started while a key was damaged, if it becomes ready within a quarter
// of wholeBound.
func (c *campaign) outlive(ctx context.Context, now *occupant) {
	for until := time.Now().Add(wholeBound / 4); time.Now().Before(until); pause(ctx, pollInterval) {
		if now.ready.Load() != 0 {
			c.stats.reach(damageOutlived)
			return
		}
	}
}

func isType(how spoiling) bool {
	return slices.ContainsFunc(wrongTypes, func(s spoiling) bool { return s.name == how.name })
}

// choose returns a random key, and a way of the family that can damage it.
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

// makeGood waits until the store verifies again. If the store does not repair itself, an operator repairs or
// restores it. still reports whether the damaged key is unchanged since the damage. makeGood returns the
// remedy that was needed.
func (c *trouble) makeGood(ctx context.Context, what string, r *rand.Rand, still func() bool) remedy {
	const tries = 3
	began, used := c.oracle.now(), untouched
	last := began // the end of the latest try
	for n := 0; ; {
		whole := c.topology.whole() == nil
		verified, err := c.operator.verify(ctx)
		waited := time.Duration(c.oracle.now() - began)
		if err == nil && len(verified.Findings) == 0 {
			// During a failover, the verified repair may be on the old master, and be lost with it. So verify
			// again when all servers run in their roles.
			if (!whole || c.topology.whole() != nil) && waited < wholeBound {
				pause(ctx, pollInterval)
				continue
			}
			if used == untouched && still() {
				c.oracle.violate(unseen, c.oracle.now(), "%s", what)
			}
			return used
		}
		if notAsked(err) && waited < wholeBound {
			pause(ctx, time.Second) // the check did not reach the store
			continue
		}
		used = max(used, byItself)
		// Give the validators time to report again, perhaps to an authority that is not up yet.
		if time.Duration(c.oracle.now()-last) < operatorPatience {
			pause(ctx, time.Second)
			continue
		}
		if n++; n > tries {
			c.oracle.violate(notRepaired, c.oracle.now(), "%s: %v, %d findings: %v", what, err, len(verified.Findings),
				first(verified.Findings))
			return used
		}
		if err := c.forgetUnreadable(ctx); err != nil && waited < wholeBound {
			n-- // an operator would repeat it too; do not count this try
			pause(ctx, time.Second)
			continue
		}
		// Some damage needs a restoration, because a repair cannot remove it. The first try may be a repair.
		// After a restoration no repair must be needed.
		if n == 1 && r.IntN(2) == 0 {
			used, err = byMending, c.operator.mend(ctx, c.campaign)
		} else {
			used, err = byRestoring, c.operator.restore(ctx, c.campaign, c.oracle.now())
		}
		if err != nil {
			c.note("%v", err)
		}
		if notAsked(err) && waited < wholeBound {
			n-- // the command did not reach the store, or did not finish: an operator repeats it
			pause(ctx, time.Second)
			continue
		}
		last = c.oracle.now()
	}
}

// forgetUnreadable removes unreadable records from the list of validators (countersign fleet forget). A
// running validator is listed again with its next report. forgetUnreadable fails when authorities listed the
// validators, and none of them could remove all unreadable records.
func (c *campaign) forgetUnreadable(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(c.asAdmin(ctx), callTimeout)
	defer cancel()
	var failed error
	for _, a := range c.authorities {
		answer, err := a.client.ListValidators(ctx, &countersignv1.ListValidatorsRequest{})
		if err != nil {
			continue // the authority was killed, or cannot read the store
		}
		failed = nil
		for _, listed := range answer.GetValidators() {
			if listed.GetUnreadable() {
				_, err := a.client.ForgetValidator(ctx, &countersignv1.ForgetValidatorRequest{ValidatorId: listed.GetValidatorId()})
				if err != nil && status.Code(err) != codes.NotFound { // another authority removed it
					failed = err
				}
			}
		}
		if failed == nil {
			return nil
		}
	}
	return failed
}

// remedy is how a damaged store became good again.
type remedy int

const (
	untouched   remedy = iota // the damage was never noticed
	byItself                  // the damage was noticed, and repaired without an operator
	byMending                 // repaired by `countersign store repair`
	byRestoring               // restored by `countersign store restore --replace`
)

// countRemedy counts the remedy of a damage.
func (c *campaign) countRemedy(used remedy, wrongType bool) {
	if used != untouched {
		c.stats.reach(damageSeen)
	}
	switch {
	case used == byItself:
		c.stats.reach(damageHealed)
	case used == byMending:
		c.stats.reach(damageMended)
	case used == byRestoring && wrongType:
		c.stats.reach(wrongRepaired)
	case used == byRestoring:
		c.stats.reach(damageRepaired)
	}
}

func first[T any](all []T) any {
	if len(all) == 0 {
		return "none"
	}
	return all[0]
}

// damage records that a key is about to be damaged.
func (o *oracle) damage(d *damage) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.damages = append(o.damages, d)
}

// repaired records that the store verifies again.
func (o *oracle) repaired(d *damage) {
	o.mu.Lock()
	defer o.mu.Unlock()
	d.until = o.now()
}

// lossesOf returns the losses that may explain why an answer about an app lacks a change. They include one
// loss for each damage that hides changes of the app.
func (o *oracle) lossesOf(appID string) []*loss {
	all := slices.Clip(*o.losses.Load())
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, d := range o.damages {
		if d.hides != nil && d.hides(appID) {
			l := &loss{What: d.what, Floor: d.from, From: d.from, Whole: true}
			l.until.Store(int64(d.until))
			all = append(all, l)
		}
	}
	return all
}

// damaged reports whether a partition was damaged at the time since or later. everyPartition means any
// partition.
func (o *oracle) damaged(partition int, since moment) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.ContainsFunc(o.damages, func(d *damage) bool {
		return (partition == everyPartition || d.partition == partition || d.partition == everyPartition) &&
			(d.until == 0 || d.until > since)
	})
}
