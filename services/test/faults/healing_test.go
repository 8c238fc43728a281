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
	// healBound is how long it may take until the store has every acknowledged change again, counted while
	// the store is writable and no fault is active. After lostBound of such time, the campaign reports
	// missing changes as lost.
	healBound = 5 * time.Second
	lostBound = 20 * time.Second
	// freshBound is added when all authorities were restarted since the loss. If the list of members is lost
	// too, an authority waits after its start, for the length of a lease, for reports of validators that it
	// does not know (009).
	freshBound = 10 * time.Second
	// slack is added to bounds, because the machine may be busy.
	slack = time.Second
	// pollInterval is the pause between two checks of the store or a process.
	pollInterval = 100 * time.Millisecond
	// wholeBound is how long the Redis servers may take until all of them run in their roles again.
	wholeBound = 2 * time.Minute
)

const (
	notHealed = "not healed in time"
	lostAgain = "an acknowledged change is lost"
	lostHeld  = "a change that running validators held is lost in a restoration"
	lostForce = "a change that all replicas had is lost"
	notWhole  = "the servers of the store do not find each other again (a fault of the campaign or of Redis)"
)

// healing describes how a loss was healed.
type healing struct {
	What string `json:"what"`
	// Missing is how many acknowledged changes the store lacked and had to get back. Revocations is how many
	// of these were revocations. Superseded is how many further changes stay missing because the same token
	// or setting was changed again.
	Missing, Revocations, Superseded int
	// Gone is how many changes stay missing because no running process has them any more (see gone).
	Gone int
	// SinceLoss is the time from the loss until nothing was missing. Took is the part of it after the store
	// was writable again. Disturbed says that other faults were active meanwhile; Took then begins when they
	// had ended.
	SinceLoss, Took time.Duration
	Disturbed       bool
	// Restored says that an operator restored the store.
	Restored bool
}

// awaitHealed waits until the store again has every change that a loss may have taken, and reports a
// violation if this takes too long.
func (c *campaign) awaitHealed(ctx context.Context, l *loss) {
	h := healing{What: l.What, Restored: l.Restored}
	var writable, undisturbed, missing, quiet, complete moment
	merging := map[made]*app{}
	late, begun := false, c.oracle.now()
	mismatched := false // the latest look found half of a change
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
		torn := false // a partition has only half of a change
		if err == nil {
			v, looked := look(ctx, c.oracle, masters, c.codec)
			if err = looked; err == nil {
				// One look may see a head before a change and a document after it.
				adds := v.addsUp(c.codec)
				gaps, torn, mismatched = c.oracle.gaps(v), !adds && mismatched, !adds
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
		// An operator restores the store even when it is not writable. Authorities that were started after a
		// wipe know nothing of the store, and wait for an operator.
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
		// A change that was sent before the store was complete may be acknowledged only later, and counts as
		// missing from then on. So wait until no such change is in flight.
		case complete != 0 && !c.inFlight.before(complete):
		case whole == nil && err == nil && !torn && len(must)+open == 0 && calm > healBound+slack:
			h.Superseded, h.Gone = superseded, gone
			c.adopt(ctx, l, gaps)
		// If faults never pause, calm stays short; therefore the total time is bounded too. A change that is
		// missing for this long is lost. Servers that do not find each other are handled in the next case.
		case whole == nil && err == nil && (calm > lostBound || now-begun > moment(wholeBound)):
			if torn {
				c.oracle.violate(notHealed, now, "%s: a partition still holds half of a change", l.What)
			}
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
			pause(ctx, pollInterval)
			continue
		}
		l.until.Store(int64(c.oracle.now()))
		c.stats.healed(h)
		c.countHealed(h, len(merging))
		return
	}
}

// freshSince reports whether all authorities were started after a time, or so shortly before it that they may
// not have loaded the store.
func (c *campaign) freshSince(at moment) bool {
	since := c.oracle.began.Add(time.Duration(at)).Add(-healBound).UnixNano()
	return !slices.ContainsFunc(c.authorities, func(a *authority) bool { return a.started.Load() < since })
}

// countHealed counts the rare states that a loss has reached. merged is the number of missing changes whose
// token or setting was also changed after the loss.
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

// mustHeal reports whether the store must get a missing change back without an operator. This is so when a
// validator that held the change at the loss still runs, or when the store was not lost as a whole (see
// wholeLost).
func (c *campaign) mustHeal(l *loss, g gap) bool {
	return c.available(l, g.missing) || !c.oracle.wholeLost()
}

// wholeLost reports whether the store was wiped or replaced by an older copy, and is not complete again. It
// may then need an operator.
func (o *oracle) wholeLost() bool {
	return slices.ContainsFunc(*o.losses.Load(), func(l *loss) bool { return l.Whole && l.until.Load() == 0 })
}

// superseded reports whether a change may stay missing for ever (B30). This is so when all of these hold: an
// open loss explains that it is missing, the same token or setting was changed after the loss began, and the
// change is no revocation. known is false while the app is being changed.
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

// gone reports whether no running process can bring a missing change back. Without a restoration this needs
// three things: no running validator has the change, not all Redis replicas had it, and the authority that
// made it was restarted. After a restoration of a backup without the change, it is enough that no running
// validator has it. A restoration may also lose a change that validators have, because they may have given it
// up before; but never a revocation.
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

// knows reports whether the history of a validator in this process has a missing change.
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

// adopt makes the oracle accept what the store has for the apps of some gaps, so that these gaps are reported
// only once.
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
	a.mu.Lock() // waits until no change of the app is in flight
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

// pause waits for a time, or until ctx ends.
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
