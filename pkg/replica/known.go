package replica

import "github.com/countersign/countersign/pkg/record"

// Reached tells whether a partition holds every change up to a cursor. It reads nothing: false may change.
// It returns ErrLost when the cursor is not in the store's past.
func (r *Replica) Reached(partition int, target record.Cursor) (bool, error) {
	return r.partitions[partition].reached(target)
}

// LinkAt returns the signed link of a cursor; false when it is not held, or no more.
func (r *Replica) LinkAt(partition int, at record.Cursor) ([]byte, bool) {
	p := r.partitions[partition]
	p.mu.Lock()
	defer p.mu.Unlock()
	i, found := p.past.find(at.Revision)
	if !found || p.past.links[i].Cursor != at || p.past.links[i].start {
		return nil, false
	}
	return p.past.links[i].raw, true
}

// Torn tells whether an app of a partition has an older policy than the partition's cursor says, because a
// change could not be applied to it, or because its document does not verify.
func (r *Replica) Torn(partition int) bool {
	p := r.partitions[partition]
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.held.torn || p.held.damaged > 0
}
