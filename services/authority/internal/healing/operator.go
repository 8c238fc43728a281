package healing

import (
	"errors"
	"slices"
	"time"

	"github.com/countersign/countersign/pkg/record"
)

const (
	// An epoch that an operator began is healed when every validator that reports has reported heardAfter
	// after it was seen, and what they have reported can be supplied; that is looked at every
	// awaitInterval. At the latest it is healed after patience, which is longer than a lease: a validator
	// that has what nobody supplies is then one that never will.
	heardAfter    = 500 * time.Millisecond
	awaitInterval = 100 * time.Millisecond
	// maxAskInterval is the greatest pause before the validators are asked again for links that nobody has
	// supplied.
	maxAskInterval = tryInterval
	patience       = 15 * time.Second
	// connectPatience is how long it is waited for links that lead from what was reported to the store's
	// past. One that was started lately may hold no more than the last few, and nobody can tell from these
	// what the two pasts share; a validator that reports to another authority may hold them all.
	connectPatience = 2 * time.Second
)

// errAwaiting says that an epoch which an operator began is not healed yet, since validators may know more.
var errAwaiting = errors.New("validators may know more")

// operators returns the epoch of an operator that is to be waited for; 0 for none. What the store has told
// counts before what the replica holds, which is of another past when a failover has taken the store back.
// The caller holds the mutex.
func (h *Healer) operators(partition int, own uint64) uint64 {
	s := &h.partitions[partition]
	if s.told <= own && !h.replica.Forked(partition) {
		s.told = 0 // the replica has caught up with it
	}
	if s.told != 0 {
		return s.told
	}
	if begun, unhealed := h.replica.Unhealed(partition); unhealed {
		return begun
	}
	return 0
}

// await begins to wait for an epoch of an operator, unless that is under way.
func (s *state) await(epoch uint64, now time.Time) {
	if s.begun != epoch {
		s.begun, s.seen, s.asks = epoch, now, 0
	}
}

// askLater makes the pause longer before the validators are asked for their links again.
func (h *Healer) askLater(partition int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := &h.partitions[partition]
	s.asks = min(max(2*s.asks, awaitInterval), maxAskInterval)
}

// present tells whether all validators that report have done so since an epoch of an operator was seen, and
// where they are. There is nothing to wait for when it was waited for long enough, nor in another epoch,
// unless the store has nothing. Waited is the epoch, 0 for none.
func (h *Healer) present(partition int) (waited uint64, at []record.Cursor, all bool) {
	h.mu.Lock()
	s := h.partitions[partition]
	h.mu.Unlock()
	since := time.Since(s.seen)
	switch {
	case s.begun == 0:
		return 0, nil, !h.blank(partition)
	case since >= patience:
		return s.begun, nil, true
	}
	at, silent := h.fleet.Present(partition, s.seen.Add(heardAfter))
	return s.begun, at, since >= heardAfter && len(silent) == 0
}

// blank tells whether nothing says how much a partition had: this authority has never seen anything of it,
// and validators that nobody knows of may not have reported yet. What the first ones hold would pass for
// everything.
func (h *Healer) blank(partition int) bool {
	if h.replica.Cursors()[partition] != (record.Cursor{}) {
		return false
	}
	_, silent := h.fleet.Present(partition, time.Time{})
	return slices.Contains(silent, record.UnknownMembers)
}

// supplied tells whether enough is known of what lies behind some cursors to heal an epoch of an operator:
// they are in the store's past, or among links that lead there. Links that lead nowhere are enough when it
// was waited for long enough.
func (h *Healer) supplied(partition int, at []record.Cursor, links [][]byte) bool {
	h.mu.Lock()
	impatient := time.Since(h.partitions[partition].seen) >= connectPatience
	h.mu.Unlock()
	var previous map[record.Cursor]record.Cursor
	judged := map[record.Cursor]bool{}
	for _, c := range at {
		for tip := true; !judged[c] && !h.inPast(partition, c); tip = false {
			judged[c] = true
			if previous == nil {
				previous = h.previous(partition, links)
			}
			before, held := previous[c]
			if !held && (tip || !impatient) {
				return false
			}
			c = before
		}
	}
	return true
}

// inPast tells whether a cursor is in the store's past, or before everything.
func (h *Healer) inPast(partition int, c record.Cursor) bool {
	if c.Revision == 0 {
		return true
	}
	reached, err := h.replica.Reached(partition, c)
	return err == nil && reached
}

// previous returns what links, and starts of epochs, were made on.
func (h *Healer) previous(partition int, links [][]byte) map[record.Cursor]record.Cursor {
	all := map[record.Cursor]record.Cursor{}
	for _, raw := range links {
		if e, err := h.replica.Codec().OpenUnlabelled(partition, raw); err == nil {
			all[e.Cursor] = e.Previous
		}
	}
	return all
}
