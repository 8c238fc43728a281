package replica

import (
	"slices"
	"time"

	"github.com/countersign/countersign/pkg/record"
)

// Changed returns a channel that is closed when a cursor moves, or when the store begins or ceases to be
// refused. Call it before reading the state, and again after each signal.
func (r *Replica) Changed() <-chan struct{} { return r.changes.wait() }

// Cursors returns the cursor of each partition; the zero cursor before it is loaded.
func (r *Replica) Cursors() []record.Cursor {
	cursors := make([]record.Cursor, len(r.partitions))
	for i, p := range r.partitions {
		cursors[i] = p.position()
	}
	return cursors
}

// Links returns the signed log entries that a partition holds, links and epoch starts: at least the latest
// 1,024 if there are so many, oldest first, and then its orphans.
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

// PastBegins returns the revision after which a partition's history begins. Of two replicas at the same
// cursor, the one with the lower revision has every link of the other's history.
func (r *Replica) PastBegins(partition int) uint64 {
	p := r.partitions[partition]
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.past.base.Revision
}

// Orphans returns the tags of the changes that a partition holds and that the store has lost, until an epoch
// settles them. At most 1,024 are kept.
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

// Forked reports whether the store has lost data of a partition: it denies changes that were confirmed, has
// no head, or lacks a change that became an orphan.
func (r *Replica) Forked(partition int) bool {
	p := r.partitions[partition]
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.forked || len(p.orphans) > 0
}

// Sticky returns the tokens of a partition that stay revoked against the store, sorted by app and token id.
// It leaves out apps that the store does not have.
func (r *Replica) Sticky(partition int) []Sticky {
	p := r.partitions[partition]
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.DeleteFunc(p.state.revoked.list(),
		func(s Sticky) bool { return p.state.rows == nil || p.state.rows.Get(s.AppID) == nil })
}

// Confirmed returns the highest cursor of a partition that a read of the store has shown, or that SetFloor
// has set.
func (r *Replica) Confirmed(partition int) record.Cursor {
	p := r.partitions[partition]
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.leastCursor()
}

// SetFloor sets the least positions that the fleet has seen in the store. A store below its floor is a fork,
// and is not followed. SetFloor ignores positions of another store, and positions that are not above what is
// confirmed. It changes neither loaded data nor history.
func (r *Replica) SetFloor(positions []record.Position) {
	for _, at := range positions {
		if at.StoreID != r.codec.StoreID() || at.Partition < 0 || at.Partition >= len(r.partitions) {
			continue
		}
		p := r.partitions[at.Partition]
		p.mu.Lock()
		if p.leastCursor().Before(at.Cursor) {
			p.floor = at.Cursor
		}
		p.mu.Unlock()
		p.wakeWorker()
	}
}

// Freshness returns the age of a partition's data, and whether it is stale: older than StaleAfter, or of an
// age about which the machine's clocks disagree. The age is 0 before the partition is loaded.
func (r *Replica) Freshness(partition int, now time.Time) (age time.Duration, stale bool) {
	age, jumped := r.partitions[partition].fresh.age(r.stamp(now))
	return age, jumped || age > StaleAfter
}

// LinkAt returns the signed link at a cursor; false when the history does not hold it.
func (r *Replica) LinkAt(partition int, at record.Cursor) ([]byte, bool) {
	p := r.partitions[partition]
	p.mu.Lock()
	defer p.mu.Unlock()
	i, found := p.past.find(at.Revision)
	if !found || p.past.links[i].Cursor != at || p.past.links[i].start {
		return nil, false
	}
	return p.past.links[i].raw, true
}

// Torn reports whether an app of a partition has no policy, or an older one than the store has at the
// partition's cursor. Either a change could not be applied to the app, or its document does not verify.
func (r *Replica) Torn(partition int) bool {
	p := r.partitions[partition]
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state.torn || p.state.damaged > 0
}

// Age returns how long ago a partition was last known to be complete; 0 before it is loaded.
func (r *Replica) Age(partition int, now time.Time) time.Duration {
	age, _ := r.partitions[partition].fresh.age(r.stamp(now))
	return age
}

// State returns a partition's cursor and its sum, read together; false before the partition is loaded.
func (r *Replica) State(partition int) (record.Cursor, record.Sum, bool) {
	p := r.partitions[partition]
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state.cursor, p.state.sum, p.state.rows != nil
}
