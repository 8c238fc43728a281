package fleet

import (
	"time"

	"github.com/countersign/countersign/pkg/record"
)

// floor tells when the fleet's floor is available. The floor is the highest position of each partition that
// this authority or a validator has seen.
//
// A new authority knows only what it reads from the store, and the store may be an old copy. The validators
// that were members before know better. So the floor is not available until each of them has reported, here
// or to another authority, or a Lease has passed. The floor does not wait for a validator that was silent for
// a Lease while others reported, since it may never come back.
//
// A second case: a replica drops a change that came as a hint when a read shows that the store lacks it. The
// replica then holds the change as an orphan, and its cursor is the store's own. So the cursors do not show
// that the store is an old copy. While this authority or a validator holds orphans, the floor is not
// available: until the orphans are healed, which moves the epoch beyond the copy, or for a Lease.
type floor struct {
	// since is when the fleet was first read.
	since time.Time
	// awaited has the validators that have not reported since then, with their records as they were.
	awaited map[string]*record.Validator
	// lacking is when orphans were first seen; zero while there are none.
	lacking time.Time
	// known is closed while the floor is available. It is replaced when the floor ceases to be.
	known     chan struct{}
	available bool
}

// awaitReports begins to wait for reports of the present members. The caller holds the mutex.
func (r *Registry) awaitReports(now time.Time) {
	r.floor.since, r.floor.awaited = now, map[string]*record.Validator{}
	// No member reported while all authorities were stopped. So reports are compared with the latest report,
	// not with the present.
	var latest time.Time
	for _, m := range r.members {
		if !m.Gone && m.Reported.After(latest) {
			latest = m.Reported
		}
	}
	for id, m := range r.members {
		if !m.Gone && (m.Reported.IsZero() || latest.Sub(m.Reported) <= Lease) {
			r.floor.awaited[id] = m.copyRecord()
		}
	}
	r.updateFloor(now)
}

// hasReported records that this authority knows all that a validator has seen. The caller holds the mutex.
func (r *Registry) hasReported(id string, now time.Time) {
	delete(r.floor.awaited, id)
	r.updateFloor(now)
}

// updateFloor finds out whether the floor is available. The caller holds the mutex.
func (r *Registry) updateFloor(now time.Time) {
	f := &r.floor
	switch lacks := r.lacks(now); {
	case !lacks:
		f.lacking = time.Time{}
	case f.lacking.IsZero():
		f.lacking = now
	}
	awaits := f.since.IsZero() || len(f.awaited) > 0 && now.Sub(f.since) <= Lease
	heals := !f.lacking.IsZero() && now.Sub(f.lacking) <= Lease
	switch available := !awaits && !heals; {
	case available == f.available:
		return
	case !available:
		f.available, f.known = false, make(chan struct{})
		return
	}
	f.available = true
	close(f.known)
	if len(f.awaited) > 0 {
		r.log.Warn("validators have not reported since this authority was started; changes that only they know are not in the "+
			"floor",
			"validators", len(f.awaited))
		clear(f.awaited) // log it once
	}
	if !f.lacking.IsZero() {
		r.log.Warn("the store lacks changes that were not healed in time; they are not in the floor")
	}
}

// lacks tells whether this authority, or any validator that reports, holds changes that the store lacks. The
// caller holds the mutex.
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

// Floor returns the fleet's floor. While the floor is not available, known is false and later is closed when
// it becomes available.
func (r *Registry) Floor() (positions []record.Position, known bool, later <-chan struct{}) {
	// The cursors are read first: a cursor that goes back leaves an orphan, and the check for orphans comes
	// later.
	cursors := r.past.Cursors()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.updateFloor(time.Now()); !r.floor.available {
		return nil, false, r.floor.known
	}
	positions = make([]record.Position, r.codec.Partitions())
	for partition, own := range cursors {
		at := record.Position{StoreID: r.codec.StoreID(), Partition: partition, Cursor: own}
		// A partition that is below a confirmed position, or below the floor file, is not loaded and has no
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
