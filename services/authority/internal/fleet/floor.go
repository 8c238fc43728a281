package fleet

import (
	"time"

	"github.com/countersign/countersign/pkg/record"
)

// floor decides when the fleet's floor is available. The floor has, for each partition, the highest position
// that this authority or a validator has seen.
//
// A new authority knows only what it reads from the store, and the store may be an old copy. The validators
// that were members before may have seen later positions. So the floor is not available until each of them
// has reported, to this authority or to another one, or until a Lease has passed. The floor does not wait for
// a validator that was silent for a Lease while others reported, since it may never come back.
//
// The floor also waits for orphans. A replica can receive a change as a hint before it reads the change from
// the store. When a read shows that the store lacks the change, the replica keeps the change as an orphan,
// and its cursor goes back to the store's own. So the cursors do not show that the store is an old copy.
// While this authority or a validator holds orphans, the floor is not available. This ends when the orphans
// are healed, which moves the epoch beyond the copy, or after a Lease.
//
// A validator may have orphans from its snapshot file that the store has settled meanwhile. It follows no
// epoch before it has the floor, so it would wait for its own orphans. Therefore orphans that a healing has
// found to be settled do not count.
type floor struct {
	// since is when this authority first read the fleet. It is zero before that.
	since time.Time
	// awaited has the validators for whose reports the floor waits. The value is the record of the validator
	// at since.
	awaited map[string]*record.Validator
	// lacking is when orphans were first seen. It is zero while no process holds orphans.
	lacking time.Time
	// known is closed while the floor is available. When the floor becomes unavailable, known is replaced by
	// an open channel.
	known     chan struct{}
	available bool
}

// awaitReports starts the wait for reports of the present members. The caller holds the mutex.
func (r *Registry) awaitReports(now time.Time) {
	r.floor.since, r.floor.awaited = now, map[string]*record.Validator{}
	// A member is awaited if it has reported within a Lease before the latest report of any member, or if the
	// list has it without a report. The present time is no measure: no member could report while all
	// authorities were stopped.
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

// hasReported records that a validator has reported or has left, so that the floor does not wait for it. The
// caller holds the mutex.
func (r *Registry) hasReported(id string, now time.Time) {
	delete(r.floor.awaited, id)
	r.updateFloor(now)
}

// updateFloor checks whether the floor is available, and wakes its waiters when it becomes available. The
// caller holds the mutex.
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

// lacks reports whether this authority, or a validator whose lease runs, holds orphans: changes that the
// store lacks. The caller holds the mutex.
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

// Floor returns the fleet's floor. While the floor is not available, known is false. The channel later is
// then closed when the floor becomes available.
func (r *Registry) Floor() (positions []record.Position, known bool, later <-chan struct{}) {
	// Read the cursors before the check for orphans. A cursor that has gone back before this read has left an
	// orphan, which the check finds.
	cursors := r.past.Cursors()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.updateFloor(time.Now()); !r.floor.available {
		return nil, false, r.floor.known
	}
	positions = make([]record.Position, r.codec.Partitions())
	for partition, own := range cursors {
		at := record.Position{StoreID: r.codec.StoreID(), Partition: partition, Cursor: own}
		// A partition is not loaded, and has no cursor, while the store is below its confirmed position or
		// below the floor file.
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

// Settled records that the store has, or has settled, some changes of a partition. Validators that hold them
// as orphans may not know that yet.
func (r *Registry) Settled(partition int, tags map[record.Tag]bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.members {
		for _, tag := range m.orphans[partition] {
			if tags[tag] {
				m.settled[tag] = true
			}
		}
		m.countOrphans()
	}
	r.updateFloor(time.Now())
}

// countOrphans counts the orphans of a validator that reports here. It forgets which of its earlier orphans
// were settled.
func (m *member) countOrphans() {
	if m.stream == nil {
		return
	}
	m.Orphans = 0
	held := map[record.Tag]bool{}
	for _, tags := range m.orphans {
		for _, tag := range tags {
			if held[tag] = m.settled[tag]; !held[tag] {
				m.Orphans++
			}
		}
	}
	for tag := range m.settled {
		if _, holds := held[tag]; !holds {
			delete(m.settled, tag)
		}
	}
}
