package faults

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/countersign/countersign/pkg/policy"
)

const (
	// healBound is how long it may take, undisturbed and with the store writable, until everything
	// acknowledged is there again; lostBound is how long the campaign waits before it takes what is missing
	// for lost.
	healBound = 5 * time.Second
	lostBound = 20 * time.Second
	// freshBound is what is added when all authorities were started since: where the list of members is
	// lost as well, they wait for a lease from their start for validators that nobody knows of (009).
	freshBound = 10 * time.Second
	// slack is what a busy machine may add to a bound.
	slack = time.Second
	// lookInterval is the pause between two looks at the store.
	lookInterval = 100 * time.Millisecond
	// wholeBound is how long servers may take until all of them run and follow each other again.
	wholeBound = 2 * time.Minute
)

const (
	notHealed = "not healed in time"
	lostAgain = "an acknowledged change is lost"
	lostHeld  = "a change that running validators held is lost in a restoration"
	lostForce = "a change that all replicas had is lost"
	notWhole  = "the servers of the store do not find together again (the campaign's fault, or Redis')"
)

// healing is how a loss was made good.
type healing struct {
	What string `json:"what"`
	// Missing is how many acknowledged changes the store was seen to lack, Revocations those of them that
	// revoke, Superseded those that gave way to others.
	Missing, Revocations, Superseded int
	// Gone are changes that nobody was left to know of: the authority that had made them was killed, and no
	// validator that runs had seen them.
	Gone int
	// SinceLoss is how long it took from the loss on, Took since the store was writable again; Disturbed
	// says that other faults were going on, and that Took is counted from when they had ended.
	SinceLoss, Took time.Duration
	Disturbed       bool
	// Restored says that it took an operator.
	Restored bool
}

// settle waits until the store has everything again that a loss may have taken, and judges how that went.
func (c *campaign) settle(ctx context.Context, l *loss) {
	h := healing{What: l.What, Restored: l.Restored}
	var writable, undisturbed, missing, quiet, complete moment
	merging := map[made]*app{}
	late, begun := false, c.oracle.now()
	for {
		now := c.oracle.now()
		masters, err := c.topology.masters()
		if err != nil || !slices.ContainsFunc(c.authorities, func(a *authority) bool { return a.serving(ctx) }) {
			writable = 0
		} else if writable == 0 {
			writable = now
		}
		if writable == 0 || c.faults.active() {
			undisturbed = 0
		} else if undisturbed == 0 {
			undisturbed = now
		}
		var gaps []gap
		torn := false // a partition has half of a change
		if err == nil {
			v, looked := look(ctx, c.oracle, masters, c.codec)
			if err = looked; err == nil {
				gaps, torn = c.oracle.gaps(v), !v.addsUp(c.codec)
			}
		}
		var must []gap
		superseded, gone, open := 0, 0, 0
		for _, g := range gaps {
			gaveWay, known := c.oracle.superseded(g)
			switch {
			case !known:
				open++
			case gaveWay:
				superseded++
			case c.gone(g):
				gone++
			default:
				must = append(must, g)
			}
		}
		if len(must) > 0 {
			missing, h.SinceLoss = now, 0
			h.Missing = max(h.Missing, len(must))
			revocations := 0
			for _, g := range must {
				if g.revocation {
					revocations++
				}
			}
			h.Revocations = max(h.Revocations, revocations)
		}
		calm := time.Duration(0)
		if undisturbed != 0 {
			calm = time.Duration(now - undisturbed)
		}
		if err == nil && len(must) == 0 && missing != 0 && h.SinceLoss == 0 {
			h.Disturbed = undisturbed != writable
			h.SinceLoss = time.Duration(now - l.From)
			if writable != 0 {
				h.Took = time.Duration(now - max(writable, undisturbed))
			}
		}
		for _, g := range must {
			if g.rival(l.From) {
				merging[g.missing] = g.app
			}
		}
		bound := healBound + slack
		if l.Whole && c.freshSince(l.From) {
			bound += freshBound
		}
		if calm > bound && !late {
			if i := slices.IndexFunc(must, func(g gap) bool { return c.mustHeal(l, g) }); i >= 0 {
				late = true
				c.oracle.violate(notHealed, now,
					"%s: %d changes are missing %s after the store was writable and nothing disturbed it, among them: %s",
					l.What, len(must), calm, must[i].what)
			}
		}
		whole := c.topology.whole()
		if whole != nil || c.faults.active() {
			quiet = 0
		} else if quiet == 0 {
			quiet = now
		}
		// The store need not be writable for an operator: authorities that were started after it was wiped
		// know nothing of it, and wait for one.
		if quiet != 0 && !h.Restored && len(must) > 0 && time.Duration(now-quiet) > operatorPatience {
			h.Restored = true
			if err := c.operator.restore(ctx, c, quiet); err != nil {
				c.oracle.violate(notRestored, now, "%s: %v", l.What, err)
			}
			undisturbed, quiet = 0, 0
			continue
		}
		if whole != nil || err != nil || torn || len(gaps) > 0 {
			complete = 0
		} else if complete == 0 {
			complete = now
		}
		switch {
		case ctx.Err() != nil:
			l.until.Store(int64(now))
			return
		// What was made before the loss may be acknowledged after it, and is missing only from then on.
		case complete != 0 && !c.underWay.before(complete):
		case whole == nil && err == nil && !torn && len(must)+open == 0 && calm > healBound+slack:
			h.Superseded, h.Gone = superseded, gone
			c.adopt(ctx, l, gaps)
		// Faults that went on all the time may have left no calm. What the store lacks after this long is
		// lost: that its servers did not find together is another matter.
		case whole == nil && err == nil && (calm > lostBound || now-begun > moment(wholeBound)):
			for _, g := range must {
				kind := lostAgain
				if c.available(l, g.missing) {
					kind = lostHeld
				}
				if g.missing.durable && !l.Whole {
					kind = lostForce
				}
				c.oracle.violate(kind, now, "%s: %s", l.What, g.what)
			}
			c.adopt(ctx, l, gaps)
		case now-begun > moment(wholeBound):
			c.oracle.violate(notWhole, now, "%s: %v, %v", l.What, whole, err)
			c.adopt(ctx, l, gaps)
		default:
			pause(ctx, lookInterval)
			continue
		}
		l.until.Store(int64(c.oracle.now()))
		c.stats.healed(h)
		c.countHealed(h, len(merging))
		return
	}
}

// freshSince tells whether all authorities were started since a time, or so shortly before it that they had
// not loaded the store.
func (c *campaign) freshSince(at moment) bool {
	since := c.oracle.began.Add(time.Duration(at)).Add(-healBound).UnixNano()
	return !slices.ContainsFunc(c.authorities, func(a *authority) bool { return a.started.Load() < since })
}

// countHealed counts the rare states that a loss went through. Merged is how many changes were missing of
// what was changed on the other side as well.
func (c *campaign) countHealed(h healing, merged int) {
	for what, reached := range map[string]bool{
		restoredBack:  h.What == restoredLoss && h.Missing > 0 && h.Gone == 0,
		wipedRestored: strings.HasPrefix(h.What, "wiped after a restoration") && h.Missing > 0 && !h.Restored,
		bothSides:     merged > 0 && h.Superseded+h.Gone == 0 && !h.Restored,
	} {
		if reached {
			c.stats.reach(what)
		}
	}
}

// mustHeal tells whether the store must get back by itself what it lacks: a validator that held it when it
// was lost, and all that belongs to it, still runs, or it was not the whole store that was lost.
func (c *campaign) mustHeal(l *loss, g gap) bool {
	return c.available(l, g.missing) || !c.oracle.wholeLost()
}

// wholeLost tells whether the store was wiped, or an older copy put back, and that is not made good: it
// need not heal by itself then.
func (o *oracle) wholeLost() bool {
	return slices.ContainsFunc(*o.losses.Load(), func(l *loss) bool { return l.Whole && l.until.Load() == 0 })
}

// superseded tells whether a change may be missing for good: the store has lost it just now, somebody
// changed the same token or setting in what the store had become, and it was no revocation (B30). It is not
// known while the app is being changed.
func (o *oracle) superseded(g gap) (yes, known bool) {
	if g.revocation {
		return false, true
	}
	if !g.app.mu.TryLock() {
		return false, false
	}
	defer g.app.mu.Unlock()
	for _, l := range *o.losses.Load() {
		if l.until.Load() == 0 && l.covers(g.missing) && g.rival(l.From) {
			return true, true
		}
	}
	return false, true
}

// gone tells whether nobody is left who could know of a missing change, since no validator that runs has
// seen it: all replicas never had it, and the authority that made it was killed since; or a backup that
// does not have it was restored. What was no revocation may be lost with a restoration in any case: what
// brings it back may have been given up before.
func (c *campaign) gone(g gap) bool {
	m := g.missing
	restored := slices.ContainsFunc(*c.oracle.losses.Load(),
		func(l *loss) bool { return l.Restored && l.until.Load() == 0 && l.covers(m) })
	if slices.ContainsFunc(*c.oracle.losses.Load(), func(l *loss) bool { return l.until.Load() == 0 && c.available(l, m) }) {
		return false
	}
	if restored && !g.revocation {
		return true
	}
	if !restored && (m.durable || m.by == nil || m.by.lives.Load() == m.life) {
		return false
	}
	return !slices.ContainsFunc(c.seats, func(s *seat) bool { return c.knows(s, g) })
}

// knows tells whether a validator has a change that is missing.
func (c *campaign) knows(s *seat, g gap) bool {
	e := s.now.Load()
	if e == nil || e.Replica() == nil {
		return false
	}
	partition := c.codec.PartitionOf(g.app.id)
	return slices.ContainsFunc(e.Replica().Links(partition), func(raw []byte) bool {
		link, err := c.codec.OpenLink(partition, raw)
		if err != nil || link.AppID != g.app.id {
			return false
		}
		var tokens []policy.Token
		for i := range link.Upserts {
			tokens = append(tokens, link.Upserts[i].Token)
		}
		return g.holds(link.Enforcement, tokens)
	})
}

// adopt takes the store as it is for the apps of some gaps.
func (c *campaign) adopt(ctx context.Context, l *loss, gaps []gap) {
	done := map[*app]bool{}
	for _, g := range gaps {
		if !done[g.app] {
			done[g.app] = true
			c.adoptApp(ctx, l, g.app)
		}
	}
}

func (c *campaign) adoptApp(ctx context.Context, l *loss, a *app) {
	a.mu.Lock() // waits for a change that is under way
	defer a.mu.Unlock()
	masters, err := c.topology.masters()
	if err != nil {
		return
	}
	v, err := look(ctx, c.oracle, masters, c.codec)
	if err != nil {
		return
	}
	for _, g := range c.oracle.gaps(v) {
		if g.app != a {
			continue
		}
		c.stats.example(g.what)
		g.adopt(made{sent: l.From, acked: c.oracle.now(), durable: true})
	}
}

// pause waits, unless ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (h healing) String() string {
	return fmt.Sprintf("%s: %d missing, %d of them revocations, %d superseded, %s", h.What, h.Missing, h.Revocations,
		h.Superseded, h.Took)
}
