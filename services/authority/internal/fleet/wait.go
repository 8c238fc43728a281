package fleet

import (
	"time"

	"github.com/countersign/countersign/pkg/record"
)

// wait is somebody waiting for a change to be everywhere. Nobody asks again and again: a report looks at
// the waits of the partitions that it moves, and only when it is of the one validator that a wait is known
// to lack, the wait looks for another one.
type wait struct {
	partition int
	at        record.Cursor
	since     time.Time
	// seen are the validators that have shown the change, by name.
	seen map[string]seen
	// absent are those that were LOST when the wait began, by name or by the field of a record that nobody
	// can read. While they are, they are not waited for.
	absent map[string]bool
	// link is the change itself; nil while it is not known that this authority holds it.
	link *record.Link
	// blocker is one that has not; empty: nobody knows.
	blocker string
	// lost says that the change is not in the store's past.
	lost bool
	// done is closed when nobody is missing that is waited for, or the change is lost.
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

// again makes a wait that was done one that is not.
func (w *wait) again() {
	if w.closed {
		w.closed, w.done, w.blocker = false, make(chan struct{}), ""
	}
}

// see looks whether a member has shown the change. The caller holds the mutex.
func (r *Registry) see(w *wait, m *member) {
	if _, has := w.seen[m.ID]; has {
		return
	}
	r.look(w, m)
	if w.blocker == m.ID || w.blocker == "" {
		r.check(w)
	}
}

// look notes that a member has shown the change, if it has. The caller holds the mutex.
func (r *Registry) look(w *wait, m *member) {
	if _, has := w.seen[m.ID]; !has && r.shows(w, m) {
		w.seen[m.ID] = seen{m.Cursors[w.partition].Revision, m.moved[w.partition]}
	}
}

// shows tells whether a member has reported a cursor that has the change in its past. A validator may be on
// another turn of the store than this authority, as after a failover, so both the change and the cursor
// must be in this authority's past. The caller holds the mutex.
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

// absent returns who is LOST now. The caller holds the mutex.
func (r *Registry) absent() map[string]bool {
	now, absent := time.Now(), map[string]bool{}
	for _, m := range r.members {
		if !m.Gone && m.lost(now) {
			absent[m.ID] = true
		}
	}
	for field := range r.strangers() {
		absent[field] = true
	}
	return absent
}

// lost tells whether a member's lease has ended, and no bound keeps it from answering from old data.
func (m *member) lost(now time.Time) bool {
	return stateOf(now.Sub(m.heard), m.FencedAfter, Lease) == Lost
}

// check looks for a validator that is missing. The caller holds the mutex.
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
	now, anybody := time.Now(), len(w.absent) > 0
	for _, m := range r.members {
		if m.Gone {
			continue
		}
		anybody = true
		r.look(w, m)
		if r.stateIn(w, m, now) < Fenced && !(w.absent[m.ID] && m.lost(now)) {
			w.blocker = m.ID
			return
		}
	}
	if anybody {
		w.finish()
	}
}

// stateIn says what a member has done with a change. The caller holds the mutex.
func (r *Registry) stateIn(w *wait, m *member, now time.Time) State {
	if _, has := w.seen[m.ID]; !has || w.lost {
		if state := stateOf(now.Sub(m.heard), m.FencedAfter, now.Sub(w.since)); state < Fenced || w.lost {
			return state
		}
		return min(Fenced, m.clock.state(r.turnOf(w), now, true))
	}
	return m.clock.state(r.turnOf(w), now, m.silent(now))
}

// linkOf returns the change that a wait is for; nil when this authority does not hold it. The caller holds
// the mutex.
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

// turnOf returns the latest time at which a change becomes something else by itself, at each validator by
// its own clock; zero when nothing does. Of a change that this authority does not hold nobody knows: it may
// be at any time. The caller holds the mutex.
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

// checkAll looks at every wait of some partitions, or of all. The caller holds the mutex.
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
