package replica

import (
	"slices"
	"time"

	"github.com/countersign/countersign/pkg/record"
)

// Changed returns a channel that is closed when a cursor moves, or when the store begins or ceases to be
// refused. Ask before looking at what may change, and again after each time.
func (r *Replica) Changed() <-chan struct{} { return r.changes.wait() }

// Cursors returns how far each partition is; the zero cursor for one that is not loaded.
func (r *Replica) Cursors() []record.Cursor {
	cursors := make([]record.Cursor, len(r.partitions))
	for i, p := range r.partitions {
		cursors[i] = p.position()
	}
	return cursors
}

// Links returns the signed entries of the log that a partition holds, links and starts of epochs: the
// latest 1,024 or more, oldest first, and then those that the store does not have.
func (r *Replica) Links(partition int) [][]byte {
	p := r.partitions[partition]
	p.mu.Lock()
	defer p.mu.Unlock()
	links := make([][]byte, 0, len(p.past.links)+len(p.orphans))
	for _, list := range [][]pastLink{p.past.links, p.orphans} {
		for _, link := range list {
			links = append(links, link.raw)
		}
	}
	return links
}

// PastBegins returns the revision behind which the links begin that a partition holds. Of two replicas at
// one cursor, the one with the lower revision holds all links of the store's past that the other holds.
func (r *Replica) PastBegins(partition int) uint64 {
	p := r.partitions[partition]
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.past.base.Revision
}

// Orphans returns the tags of the changes that a partition holds on to and that the store does not have,
// until an epoch begins that settles them. At most 1,024 are kept.
func (r *Replica) Orphans(partition int) []record.Tag {
	p := r.partitions[partition]
	p.mu.Lock()
	defer p.mu.Unlock()
	var tags []record.Tag
	for _, link := range p.orphans {
		if !link.start {
			tags = append(tags, link.Tag)
		}
	}
	return tags
}

// Forked tells whether the store has lost what a partition knows of: it denies what was confirmed, or has
// no head, or does not have changes that are held on to.
func (r *Replica) Forked(partition int) bool {
	p := r.partitions[partition]
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.forked || len(p.orphans) > 0
}

// Sticky returns the tokens of a partition that are kept revoked against the store, by app and token id, of
// apps that the store knows of.
func (r *Replica) Sticky(partition int) []Sticky {
	p := r.partitions[partition]
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.DeleteFunc(p.held.revoked.list(), func(s Sticky) bool { return p.held.rows == nil || p.held.rows.Get(s.AppID) == nil })
}

// Confirmed returns the furthest place of a partition that a read of the store has shown, or SetFloor has
// told.
func (r *Replica) Confirmed(partition int) record.Cursor {
	p := r.partitions[partition]
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.least()
}

// SetFloor says how far a fleet has seen the store: one that is below is a fork, and not followed.
// Positions of another store, or that are not beyond what is confirmed, are ignored. What a partition has
// read, and what it holds on to, does not change by it.
func (r *Replica) SetFloor(positions []record.Position) {
	for _, at := range positions {
		if at.StoreID != r.codec.StoreID() || at.Partition < 0 || at.Partition >= len(r.partitions) {
			continue
		}
		p := r.partitions[at.Partition]
		p.mu.Lock()
		if p.least().Before(at.Cursor) {
			p.floor = at.Cursor
		}
		p.mu.Unlock()
		p.awaken()
	}
}

// Freshness returns how old a partition's data is, and whether it is stale: older than StaleAfter, or of an
// age that the machine's clocks do not agree on. Before it is loaded the age is 0.
func (r *Replica) Freshness(partition int, now time.Time) (age time.Duration, stale bool) {
	age, jumped := r.partitions[partition].fresh.age(r.stamp(now))
	return age, jumped || age > StaleAfter
}
