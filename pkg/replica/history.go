package replica

import (
	"cmp"
	"slices"

	"github.com/countersign/countersign/pkg/record"
)

// history is the latest entries of the log that a partition has followed, oldest first, without a gap:
// links, and the starts of the epochs that it has crossed into.
type history struct {
	// base is the cursor before the first entry.
	base  record.Cursor
	links []pastLink
}

// pastLink is an entry of a history: a link, or the start of an epoch.
type pastLink struct {
	record.Cursor
	raw   []byte
	start bool
}

// historySlack is how many links more than historyLength a history may have before it is trimmed.
const historySlack = historyLength / 4

func (h *history) add(at record.Cursor, raw []byte) { h.append(pastLink{Cursor: at, raw: raw}) }

func (h *history) append(links ...pastLink) {
	h.links = append(h.links, links...)
	h.trim()
}

// trim drops what is more than the history has to keep, many at a time.
func (h *history) trim() {
	if over := len(h.links) - historyLength; over > historySlack {
		h.base = h.links[over-1].Cursor
		h.links = append(h.links[:0:0], h.links[over:]...)
	}
}

// end returns the cursor that the history leads to.
func (h *history) end() record.Cursor {
	if len(h.links) == 0 {
		return h.base
	}
	return h.links[len(h.links)-1].Cursor
}

// precede puts an older history in front: that part of it which leads to this one, if any.
func (h *history) precede(older history) {
	tail, known := older.after(h.base)
	if !known {
		return
	}
	leading := older.links[:len(older.links)-len(tail)]
	h.base, h.links = older.base, append(slices.Clip(leading), h.links...)
	h.trim()
}

// agrees tells whether a cursor lies in this past. One from before the history began cannot be told from
// another and counts as agreeing.
func (h *history) agrees(c record.Cursor) bool {
	if c.Revision < h.base.Revision && c.Epoch <= h.base.Epoch {
		return true
	}
	_, known := h.after(c)
	return known
}

// after returns the entries behind a cursor; false when the cursor is not in this history.
func (h *history) after(c record.Cursor) ([]pastLink, bool) {
	if c == h.base {
		return h.links, true
	}
	i, found := h.find(c.Revision)
	if !found {
		return nil, false
	}
	return h.links[i+1:], h.links[i].Cursor == c
}

// find returns the index of the entry with a revision. Revisions only rise, but not always by one: an epoch
// begins above all that were seen.
func (h *history) find(revision uint64) (i int, found bool) {
	return slices.BinarySearchFunc(h.links, revision, func(link pastLink, revision uint64) int {
		return cmp.Compare(link.Revision, revision)
	})
}
