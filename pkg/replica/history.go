package replica

import "github.com/countersign/countersign/pkg/record"

// history is the latest links that a partition has applied, oldest first, without a gap.
type history struct {
	// base is the cursor before the first link.
	base  record.Cursor
	links []pastLink
}

type pastLink struct {
	record.Cursor
	raw []byte
}

func (h *history) add(at record.Cursor, raw []byte) {
	if len(h.links) == historyLength {
		h.base = h.links[0].Cursor
		h.links = append(h.links[:0], h.links[1:]...)
	}
	h.links = append(h.links, pastLink{Cursor: at, raw: raw})
}

// agrees tells whether a cursor lies in this past. One from before the history began cannot be told from another
// and counts as agreeing.
func (h *history) agrees(c record.Cursor) bool {
	if c.Epoch != h.base.Epoch {
		return c.Epoch < h.base.Epoch
	}
	if c.Revision < h.base.Revision {
		return true
	}
	_, known := h.after(c)
	return known
}

// after returns the links behind a cursor; false when the cursor is not in this history.
func (h *history) after(c record.Cursor) ([]pastLink, bool) {
	if c == h.base {
		return h.links, true
	}
	if c.Epoch != h.base.Epoch || c.Revision <= h.base.Revision || c.Revision-h.base.Revision > uint64(len(h.links)) {
		return nil, false
	}
	i := c.Revision - h.base.Revision
	return h.links[i:], h.links[i-1].Cursor == c
}
