package fleet

import (
	"context"
	"slices"
	"time"

	"github.com/countersign/countersign/pkg/record"
)

// unreachedAfter is how long a cursor that a validator has reported may be unknown to an authority that has
// not loaded the partition, before that counts as a sign that the store has lost changes.
const unreachedAfter = time.Second

// follows tells whether a cursor is in this authority's past, or cannot be any more. One of an earlier
// epoch says nothing: the validator has not come to the present one. The caller holds the mutex.
func (r *Registry) follows(partition int, at record.Cursor) (lost, reached bool) {
	if own, _, loaded := r.past.State(partition); loaded && at.Epoch < own.Epoch {
		return false, true
	}
	reached, err := r.past.Reached(partition, at)
	return err != nil, err == nil && reached
}

// sweepAll looks at what only time brings about: leases that end, and cursors that stay unknown.
func (r *Registry) sweepAll(ctx context.Context) {
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
			case lost || r.without(partition, since, now):
				r.notice(partition)
			}
		}
		for partition := range m.orphans {
			r.notice(partition)
		}
		r.compareDigests(m)
	}
	r.settleFloor(now)
	r.checkAll()
}

// without tells whether the store was seen, by a read that was sent after a time, to be without what this
// authority does not hold. That this authority is slow to follow, or cannot read the store, is no such
// sign.
func (r *Registry) without(partition int, since, now time.Time) bool {
	if _, _, loaded := r.past.State(partition); !loaded {
		return now.Sub(since) >= unreachedAfter
	}
	age, _ := r.past.Freshness(partition, now)
	return now.Add(-age).After(since)
}

// compareDigests compares what a member says of its data with this authority's own, where both are at one
// place: silent divergence. The caller holds the mutex.
func (r *Registry) compareDigests(m *member) {
	for partition, digest := range m.digests {
		own, sum, loaded := r.past.State(partition)
		if !loaded || own != m.Cursors[partition] {
			continue
		}
		delete(m.digests, partition)
		if r.codec.SealSum(partition, sum).MAC != digest {
			r.metrics.divergences.Inc()
			r.log.Error("a validator's data is not what this authority has at the same place", "validator", m.ID, "partition", partition, "cursor", own)
		}
	}
}

// followOwn looks at the waits of those partitions in which this authority itself gets on.
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
