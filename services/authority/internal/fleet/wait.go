package fleet

import (
	"time"

	"github.com/countersign/countersign/pkg/record"
)

// wait is the state of one caller that waits until every validator has a change. When a validator reports a
// new cursor of a partition, the waits on that partition are checked. While a blocker is known, reports of
// other validators cause no full check. sweepLoop regularly checks all waits.
type wait struct {
	partition int
	// at is the cursor of the change.
	at record.Cursor
	// since is when the wait began. The change is at least that old.
	since time.Time
	// seen has the validators that have shown the change, by id. A validator shows a change when it reports a
	// cursor whose history includes the change.
	seen map[string]seen
	// absent is the set of validators that were LOST when the wait began. A key is the validator's id, or the
	// hash field when its record does not verify. The wait ignores these validators while they are LOST.
	absent map[string]bool
	// link is the signed record of the change. It is nil until this authority is known to hold the change.
	link *record.Link
	// blocker is the id of a validator that blocks the wait: its state for the change is below Fenced. It is
	// empty when none is known.
	blocker string
	// lost is true when the store's history does not have the change.
	lost bool
	// done is closed when no validator blocks the wait, or the change is lost.
	done   chan struct{}
	closed bool
}

// seen is the report with which a validator has shown a change: the revision in it, and when it arrived.
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

// reopen makes a finished wait unfinished, so that the caller can wait on it again.
func (w *wait) reopen() {
	if w.closed {
		w.closed, w.done, w.blocker = false, make(chan struct{}), ""
	}
}

// memberMoved handles a new cursor of a member. If the cursor shows the change, memberMoved records that. It
// checks the wait if this member may block it. The caller holds the mutex.
func (r *Registry) memberMoved(w *wait, m *member) {
	if _, has := w.seen[m.ID]; has {
		return
	}
	r.recordShown(w, m)
	if w.blocker == m.ID || w.blocker == "" {
		r.check(w)
	}
}

// recordShown records that a member has shown the change, if its cursor includes the change. The caller holds
// the mutex.
func (r *Registry) recordShown(w *wait, m *member) {
	if _, has := w.seen[m.ID]; !has && r.shows(w, m) {
		w.seen[m.ID] = seen{m.Cursors[w.partition].Revision, m.moved[w.partition]}
	}
}

// shows reports whether the member's latest cursor includes the change. After a failover, the validator and
// this authority may follow two forks of the store. So both the change and the cursor must be in this
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

// absent returns the validators that are LOST at the time of the call; see wait.absent. The caller holds the
// mutex.
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

// lost reports whether a member is LOST: its lease has expired, and it has no staleness bound that is shorter
// than a lease. Such a member may still answer from old data.
func (m *member) lost(now time.Time) bool {
	return stateOf(now.Sub(m.heard), m.FencedAfter, Lease) == Lost
}

// check sets the blocker of a wait. It finishes the wait when no validator blocks it, or when the store has
// lost the change. The wait stays open without a blocker while this authority's replica lacks the change, and
// while the fleet has no validator. The caller holds the mutex.
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

// stateIn returns the propagation state of a change at a member. The caller holds the mutex.
func (r *Registry) stateIn(w *wait, m *member, now time.Time) State {
	if _, has := w.seen[m.ID]; !has || w.lost {
		if state := stateOf(now.Sub(m.heard), m.FencedAfter, now.Sub(w.since)); state < Fenced || w.lost {
			return state
		}
		return min(Fenced, m.clock.state(r.turnOf(w), now, true))
	}
	return m.clock.state(r.turnOf(w), now, m.silent(now))
}

// linkOf returns the signed record of the change of a wait; nil when this authority does not hold it. The
// caller holds the mutex.
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

// turnOf returns the last time at which the clock alone alters the effect of a change, for example when a
// trial ends. Each validator compares this time with its own clock. The zero time means that the clock never
// alters the effect. If this authority does not hold the change, turnOf returns anyTime. The caller holds the
// mutex.
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

// anyTime stands for an unknown time. It is later than any time in a document, so no clock has passed it.
var anyTime = time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)

// checkAll checks every wait on some partitions. Without arguments it checks the waits on all partitions. The
// caller holds the mutex.
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
