package fleet

import (
	"context"
	"slices"
	"time"

	"github.com/countersign/countersign/pkg/record"
)

// unreachedAfter applies to a partition that this authority has not loaded. A reported cursor that stays
// unknown for longer is a sign that the store has lost changes.
const unreachedAfter = time.Second

// follows compares a reported cursor with this authority's history. reached is true when the history has the
// cursor. lost is true when the history can never have it. A cursor of an earlier epoch counts as reached:
// the validator has only not reached the present epoch, which proves no loss. The caller holds the mutex.
func (r *Registry) follows(partition int, at record.Cursor) (lost, reached bool) {
	if own, _, loaded := r.past.State(partition); loaded && at.Epoch < own.Epoch {
		return false, true
	}
	reached, err := r.past.Reached(partition, at)
	return err != nil, err == nil && reached
}

// sweepLoop checks regularly for events that no report causes: leases that expire, and cursors that stay
// unknown.
func (r *Registry) sweepLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(sweepInterval):
		}
		r.sweep()
	}
}

func (r *Registry) sweep() {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.members {
		if m.Gone {
			continue
		}
		for partition, since := range m.unreached {
			lost, reached := r.follows(partition, m.Cursors[partition])
			switch {
			case reached:
				delete(m.unreached, partition)
			case lost || r.storeLacks(partition, since, now):
				r.notice(partition)
			}
		}
		for partition := range m.orphans {
			r.notice(partition)
		}
		r.compareDigests(m)
	}
	r.dropOffers(now)
	r.updateFloor(now)
	r.checkAll()
}

// storeLacks reports whether a cursor that was reported at since, and is unknown here, is a sign that the
// store has lost changes. In a loaded partition it is one only after a read of the store that began later
// than since. An authority that is slow to follow, or cannot read the store, proves no loss.
func (r *Registry) storeLacks(partition int, since, now time.Time) bool {
	if _, _, loaded := r.past.State(partition); !loaded {
		return now.Sub(since) >= unreachedAfter
	}
	age, _ := r.past.Freshness(partition, now)
	return now.Add(-age).After(since)
}

// compareDigests compares the digests of a member's data with the digests of this authority's data at the
// same cursor. A difference means that the data has diverged. The caller holds the mutex.
func (r *Registry) compareDigests(m *member) {
	for partition, digest := range m.digests {
		own, sum, loaded := r.past.State(partition)
		if !loaded || own != m.Cursors[partition] {
			continue
		}
		delete(m.digests, partition)
		if r.codec.SealSum(partition, sum).MAC != digest {
			r.metrics.divergences.Inc()
			r.log.Error("a validator's data differs from this authority's data at the same cursor", "validator", m.ID, "partition",
				partition, "cursor", own)
		}
	}
}

// followOwn checks the waits on a partition when this authority's own replica reaches another cursor of it.
func (r *Registry) followOwn(ctx context.Context) {
	last := r.past.Cursors()
	for {
		changed := r.past.Changed()
		next := r.past.Cursors()
		var moved []int
		for partition, at := range next {
			if at != last[partition] {
				moved = append(moved, partition)
			}
		}
		last = slices.Clone(next)
		if len(moved) > 0 {
			r.mu.Lock()
			r.checkAll(moved...)
			r.mu.Unlock()
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}
