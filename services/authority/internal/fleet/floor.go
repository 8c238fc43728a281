package fleet

import (
	"time"

	"github.com/countersign/countersign/pkg/record"
)

// floor is what a registry knows of the fleet's floor: the highest position of each partition that anybody has seen.
//
// An authority that was just started knows nothing but what it reads from the store, and that may be an old copy. Those who
// know better are the validators that were members before. So the floor is not told before each of them has reported, here
// or to another authority, or has not for a Lease. One that was silent for a Lease while others still reported is not waited
// for: nothing says that it will come back.
type floor struct {
	// since is when the fleet was read first.
	since time.Time
	// owed are the records, as they were read then, of the validators that have not reported since.
	owed map[string]*record.Validator
	// known is closed when the floor may be told.
	known chan struct{}
	told  bool
}

// awaitReports begins to wait for the validators that are members now. The caller holds the mutex.
func (r *Registry) awaitReports(now time.Time) {
	r.floor.since, r.floor.owed = now, map[string]*record.Validator{}
	// Before a stop of all authorities nobody reported: so reports are compared with each other, not with the present.
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

// settleFloor lets the floor be told when nobody is waited for any more. The caller holds the mutex.
func (r *Registry) settleFloor(now time.Time) {
	if r.floor.told || r.floor.since.IsZero() || len(r.floor.owed) > 0 && now.Sub(r.floor.since) <= Lease {
		return
	}
	r.floor.told = true
	close(r.floor.known)
	if len(r.floor.owed) > 0 {
		r.log.Warn("validators of the fleet have not reported since this authority was started; what only they know is not in the floor", "validators", len(r.floor.owed))
	}
}

// Floor returns the highest position of each partition that anybody has seen; false while it is not known.
func (r *Registry) Floor() ([]record.Position, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.floor.told {
		return nil, false
	}
	positions := make([]record.Position, r.codec.Partitions())
	for partition, own := range r.past.Cursors() {
		at := record.Position{StoreID: r.codec.StoreID(), Partition: partition, Cursor: own}
		// A store that is below what was confirmed, or read from the floor file, is not loaded, and has no cursor.
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
	return positions, true
}
