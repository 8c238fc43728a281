package fleet

import (
	"time"

	"github.com/countersign/countersign/pkg/record"
)

// wait is one caller that waits until every validator has a change. Events drive it: each report that moves a
// partition checks the waits of the partition. A wait that knows a blocker is checked in full only when the
// blocker reports.
type wait struct {
	partition int
	at        record.Cursor
	since     time.Time
	// seen has the validators that have shown the change, by id.
	seen map[string]seen
	// absent has the validators that were LOST when the wait began: the id, or the field of a record that
	// does not verify. The wait ignores them while they are LOST.
	absent map[string]bool
	// link is the change itself; nil until this authority is known to hold it.
	link *record.Link
	// blocker is the id of a validator that has not shown the change; empty when none is known.
	blocker string
	// lost says that the change is not in the store's history.
	lost bool
	// done is closed when no validator blocks the wait, or the change is lost.
	done   chan struct{}
	closed bool
}

// seen is how a validator has shown a change.
type seen struct {
	revision uint64
	at       time.Time
}

func (w *wait) finish() {
	if !w.closed {
		w.closed = true
		close(w.done)
	}
}

// reopen makes a finished wait wait again.
func (w *wait) reopen() {
	if w.closed {
		w.closed, w.done, w.blocker = false, make(chan struct{}), ""
	}
}

// memberMoved records that a member has shown the change, if it has, and checks the wait if this member may
// have blocked it. The caller holds the mutex.
func (r *Registry) memberMoved(w *wait, m *member) {
	if _, has := w.seen[m.ID]; has {
		return
	}
	r.recordShown(w, m)
	if w.blocker == m.ID || w.blocker == "" {
		r.check(w)
	}
}

// recordShown records that a member has shown the change, if it has. The caller holds the mutex.
func (r *Registry) recordShown(w *wait, m *member) {
	if _, has := w.seen[m.ID]; !has && r.shows(w, m) {
		w.seen[m.ID] = seen{m.Cursors[w.partition].Revision, m.moved[w.partition]}
	}
}

// shows tells whether a member has reported a cursor whose history has the change. After a failover,
// validator and authority may be on two forks of the store. So both the change and the cursor must be in this
// authority's history. The caller holds the mutex.
func (r *Registry) shows(w *wait, m *member) bool {
	at := m.Cursors[w.partition]
	if m.Gone || at.Before(w.at) || at.Conflicts(w.at) {
		return false
	}
	past, err := r.past.Reached(w.partition, w.at)
	if err != nil || !past {
		return false
	}
	past, err = r.past.Reached(w.partition, at)
	return err == nil && past
}

// absent returns the validators that are LOST now, for wait.absent. The caller holds the mutex.
func (r *Registry) absent() map[string]bool {
	now, absent := time.Now(), map[string]bool{}
	for _, m := range r.members {
		if !m.Gone && m.lost(now) {
			absent[m.ID] = true
		}
	}
	for field := range r.unverified() {
		absent[field] = true
	}
	return absent
}

// lost tells whether a member is LOST: its lease has ended, and no bound keeps it from answers from old data.
func (m *member) lost(now time.Time) bool {
	return stateOf(now.Sub(m.heard), m.FencedAfter, Lease) == Lost
}

// check looks for a validator that blocks a wait. The caller holds the mutex.
func (r *Registry) check(w *wait) {
	past, err := r.past.Reached(w.partition, w.at)
	if w.lost = err != nil; w.lost {
		w.finish()
		return
	}
	w.blocker = ""
	if !past {
		return
	}
	now, hasMembers := time.Now(), len(w.absent) > 0
	for _, m := range r.members {
		if m.Gone {
			continue
		}
		hasMembers = true
		r.recordShown(w, m)
		if r.stateIn(w, m, now) < Fenced && !(w.absent[m.ID] && m.lost(now)) {
			w.blocker = m.ID
			return
		}
	}
	if hasMembers {
		w.finish()
	}
}

// stateIn returns what a member has done with a change. The caller holds the mutex.
func (r *Registry) stateIn(w *wait, m *member, now time.Time) State {
	if _, has := w.seen[m.ID]; !has || w.lost {
		if state := stateOf(now.Sub(m.heard), m.FencedAfter, now.Sub(w.since)); state < Fenced || w.lost {
			return state
		}
		return min(Fenced, m.clock.state(r.turnOf(w), now, true))
	}
	return m.clock.state(r.turnOf(w), now, m.silent(now))
}

// linkOf returns the change of a wait; nil when this authority does not hold it. The caller holds the mutex.
func (r *Registry) linkOf(w *wait) *record.Link {
	if w.link != nil {
		return w.link
	}
	if raw, held := r.past.LinkAt(w.partition, w.at); held {
		if link, err := r.codec.OpenLink(w.partition, raw); err == nil {
			w.link = link
		}
	}
	return w.link
}

// turnOf returns the latest time at which the effect of a change changes by itself, such as the end of a
// trial. A validator sees that time on its own clock. The zero time means that the effect stays. For a change
// that this authority does not hold the time is unknown, so it is anyTime. The caller holds the mutex.
func (r *Registry) turnOf(w *wait) time.Time {
	link := r.linkOf(w)
	switch {
	case link == nil:
		return anyTime
	case link.LastTurn() == 0:
		return time.Time{}
	}
	return time.UnixMilli(link.LastTurn())
}

// anyTime is later than any time that a document may have.
var anyTime = time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)

// checkAll checks every wait of some partitions, or of all. The caller holds the mutex.
func (r *Registry) checkAll(partitions ...int) {
	if len(partitions) == 0 {
		for partition := range r.waits {
			partitions = append(partitions, partition)
		}
	}
	for _, partition := range partitions {
		for w := range r.waits[partition] {
			r.check(w)
		}
	}
}
