package healing

import (
	"errors"
	"slices"
	"time"

	"github.com/countersign/countersign/pkg/record"
)

const (
	// An operator's epoch is healed when two conditions hold. Every validator whose lease runs has reported
	// at least heardAfter after the epoch was seen. The links up to the validators' cursors have arrived. The
	// healer checks both every awaitInterval.
	//
	// After patience the healer heals in any case. patience is longer than a lease, so links that are still
	// missing will not come.
	heardAfter    = 500 * time.Millisecond
	awaitInterval = 100 * time.Millisecond
	// maxAskInterval is the longest pause before the healer asks the validators again for missing links.
	maxAskInterval = tryInterval
	patience       = 15 * time.Second
	// connectPatience bounds the wait for links that connect a reported cursor to the store's history. A
	// validator that started recently may hold only the last links. They do not show which changes the two
	// histories share. A validator that reports to another authority may hold all links.
	connectPatience = 2 * time.Second
)

// errAwaiting means that an operator's epoch is not healed yet, since validators may hold more changes.
var errAwaiting = errors.New("validators may know more")

// operators returns the operator's epoch to wait for; 0 for none. own is the replica's epoch. An epoch that
// the store has reported takes precedence over the replica's. After a failover that took the store back, the
// replica follows another history. The caller holds the mutex.
func (h *Healer) operators(partition int, own uint64) uint64 {
	s := &h.partitions[partition]
	if s.told <= own && !h.replica.Forked(partition) {
		s.told = 0 // the replica has reached that epoch
	}
	if s.told != 0 {
		return s.told
	}
	if begun, unhealed := h.replica.Unhealed(partition); unhealed {
		return begun
	}
	return 0
}

// await starts the wait for an operator's epoch, unless the wait for this epoch has started.
func (s *state) await(epoch uint64, now time.Time) {
	if s.begun != epoch {
		s.begun, s.seen, s.asks = epoch, now, 0
	}
}

// askLater doubles the pause before the healer asks the validators again for missing links.
func (h *Healer) askLater(partition int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := &h.partitions[partition]
	s.asks = min(max(2*s.asks, awaitInterval), maxAskInterval)
}

// present reports whether every validator whose lease runs has reported since an operator's epoch was seen,
// and returns their cursors. waited is that epoch; 0 for none. Without such an epoch, and after patience,
// there is no wait. A partition for which blank is true is an exception: it waits.
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

// blank reports whether nothing shows which changes a partition had. Then this authority has never seen the
// partition, and unlisted validators may not have reported yet. A healing would take the changes of the first
// validators for all changes.
func (h *Healer) blank(partition int) bool {
	if h.replica.Cursors()[partition] != (record.Cursor{}) {
		return false
	}
	_, silent := h.fleet.Present(partition, time.Time{})
	return slices.Contains(silent, record.UnknownMembers)
}

// supplied reports whether the links suffice to heal an operator's epoch. Each reported cursor must be in the
// store's history, or the links must connect it to that history. After connectPatience it is enough that the
// link of each such cursor has arrived.
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

// inPast reports whether a cursor is in the store's history, or comes before every change.
func (h *Healer) inPast(partition int, c record.Cursor) bool {
	if c.Revision == 0 {
		return true
	}
	reached, err := h.replica.Reached(partition, c)
	return err == nil && reached
}

// previous returns the predecessor of each cursor that the links name: of changes, and of starts of epochs.
func (h *Healer) previous(partition int, links [][]byte) map[record.Cursor]record.Cursor {
	all := map[record.Cursor]record.Cursor{}
	for _, raw := range links {
		if e, err := h.replica.Codec().OpenUnlabelled(partition, raw); err == nil {
			all[e.Cursor] = e.Previous
		}
	}
	return all
}
