package fleet

import (
	"time"

	"github.com/countersign/countersign/pkg/record"
)

// floor is what a registry knows of the fleet's floor: the highest position of each partition that anybody
// has seen.
//
// An authority that was just started knows nothing but what it reads from the store, and that may be an old
// copy. Those who know better are the validators that were members before. So the floor is not told before
// each of them has reported, here or to another authority, or has not for a Lease. One that was silent for
// a Lease while others still reported is not waited for: nothing says that it will come back.
//
// A change that came as a hint, and that no read of the store has confirmed, is taken back where the store
// turns out not to have it. Whoever has applied it then holds on to it, and is at the store's own position.
// An old copy must not pass for the floor by that. So the floor is not told either while anybody holds on
// to changes: until they are healed, whose epoch is beyond the copy, or for a Lease.
type floor struct {
	// since is when the fleet was read first.
	since time.Time
	// owed are the records, as they were read then, of the validators that have not reported since.
	owed map[string]*record.Validator
	// lacking is since when the store lacks changes that somebody holds on to; zero when it lacks none.
	lacking time.Time
	// known is closed while the floor may be told. Each time that it may not, there is another one.
	known chan struct{}
	told  bool
}

// awaitReports begins to wait for the validators that are members now. The caller holds the mutex.
func (r *Registry) awaitReports(now time.Time) {
	r.floor.since, r.floor.owed = now, map[string]*record.Validator{}
	// Before a stop of all authorities nobody reported: so reports are compared with each other, not with
	// the present.
	var latest time.Time
	for _, m := range r.members {
		if !m.Gone && m.Reported.After(latest) {
			latest = m.Reported
		}
	}
	for id, m := range r.members {
		if !m.Gone && (m.Reported.IsZero() || latest.Sub(m.Reported) <= Lease) {
			r.floor.owed[id] = m.whole()
		}
	}
	r.settleFloor(now)
}

// hasReported notes that all that a validator knows is known here. The caller holds the mutex.
func (r *Registry) hasReported(id string, now time.Time) {
	delete(r.floor.owed, id)
	r.settleFloor(now)
}

// settleFloor finds out whether the floor may be told. The caller holds the mutex.
func (r *Registry) settleFloor(now time.Time) {
	f := &r.floor
	switch lacks := r.lacks(now); {
	case !lacks:
		f.lacking = time.Time{}
	case f.lacking.IsZero():
		f.lacking = now
	}
	awaits := f.since.IsZero() || len(f.owed) > 0 && now.Sub(f.since) <= Lease
	heals := !f.lacking.IsZero() && now.Sub(f.lacking) <= Lease
	switch tell := !awaits && !heals; {
	case tell == f.told:
		return
	case !tell:
		f.told, f.known = false, make(chan struct{})
		return
	}
	f.told = true
	close(f.known)
	if len(f.owed) > 0 {
		r.log.Warn("validators of the fleet have not reported since this authority was started; what only they know is not in the floor", "validators", len(f.owed))
		clear(f.owed) // it is said once
	}
	if !f.lacking.IsZero() {
		r.log.Warn("the store lacks changes that are not healed; they are not in the floor")
	}
}

// lacks tells whether this authority, or a validator that reports anywhere, holds on to changes that the
// store does not have. The caller holds the mutex.
func (r *Registry) lacks(now time.Time) bool {
	for _, m := range r.members {
		if m.Orphans > 0 && !m.Gone && !m.silent(now) {
			return true
		}
	}
	for partition := range r.codec.Partitions() {
		if len(r.past.Orphans(partition)) > 0 {
			return true
		}
	}
	return false
}

// Floor returns the highest position of each partition that anybody has seen. While it may not be told,
// known is false, and later is closed when it may.
func (r *Registry) Floor() (positions []record.Position, known bool, later <-chan struct{}) {
	// The cursors come first: one that goes back leaves an orphan, which is seen after that.
	cursors := r.past.Cursors()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.settleFloor(time.Now()); !r.floor.told {
		return nil, false, r.floor.known
	}
	positions = make([]record.Position, r.codec.Partitions())
	for partition, own := range cursors {
		at := record.Position{StoreID: r.codec.StoreID(), Partition: partition, Cursor: own}
		// A store that is below what was confirmed, or read from the floor file, is not loaded, and has no
		// cursor.
		if confirmed := r.past.Confirmed(partition); at.Before(confirmed) {
			at.Cursor = confirmed
		}
		for _, m := range r.members {
			if c := m.Cursors[partition]; !m.Gone && at.Before(c) {
				at.Cursor = c
			}
		}
		positions[partition] = at
	}
	return positions, true, nil
}
