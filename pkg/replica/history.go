package replica

import (
	"cmp"
	"slices"

	"github.com/countersign/countersign/pkg/record"
)

// history holds the latest log entries that a partition has followed, oldest first and without a gap: links,
// and the starts of epochs.
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

// historySlack is how many entries above historyLength a history may have before it is trimmed.
const historySlack = historyLength / 4

func (h *history) add(at record.Cursor, raw []byte) { h.append(pastLink{Cursor: at, raw: raw}) }

func (h *history) append(links ...pastLink) {
	h.links = append(h.links, links...)
	h.trim()
}

// trim drops the oldest entries above historyLength, many at a time.
func (h *history) trim() {
	if over := len(h.links) - historyLength; over > historySlack {
		h.base = h.links[over-1].Cursor
		h.links = append(h.links[:0:0], h.links[over:]...)
	}
}

// end returns the cursor of the last entry.
func (h *history) end() record.Cursor {
	if len(h.links) == 0 {
		return h.base
	}
	return h.links[len(h.links)-1].Cursor
}

// precede prepends the part of an older history that leads to this one. It does nothing when the two do not
// meet.
func (h *history) precede(older history) {
	tail, known := older.after(h.base)
	if !known {
		return
	}
	leading := older.links[:len(older.links)-len(tail)]
	h.base, h.links = older.base, append(slices.Clip(leading), h.links...)
	h.trim()
}

// agrees reports whether a cursor lies in this history. A cursor before its base cannot be checked, and
// counts as agreeing.
func (h *history) agrees(c record.Cursor) bool {
	if c.Revision < h.base.Revision && c.Epoch <= h.base.Epoch {
		return true
	}
	_, known := h.after(c)
	return known
}

// after returns the entries after a cursor; false when the cursor is not in this history.
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

// find returns the index of the entry with a revision. Revisions rise, but not always by one: an epoch begins
// above every revision that was seen.
func (h *history) find(revision uint64) (i int, found bool) {
	return slices.BinarySearchFunc(h.links, revision, func(link pastLink, revision uint64) int {
		return cmp.Compare(link.Revision, revision)
	})
}
