package usage

import (
	"encoding/binary"
	"sync/atomic"
	"time"
)

// table has the counts of one minute. It is a hash table with linear probing (Knuth, The Art of Computer
// Programming, 6.4). It has no pointers, so that the garbage collector need not scan it. Any goroutine may
// add to a count at any time. Other changes need one goroutine at a time.
type table struct {
	minute int64
	cells  []cell
	texts  atomic.Pointer[texts] // nil until a text is long

	count int // number of entries
	at    int // index of the next cell to take
	left  int // number of entries that were not taken
}

const (
	minCells = 8
	// A new or grown table has half as many cells more than entries. It is full when only a sixth of its
	// cells is free.
	reserve        = 2
	fullest, outOf = 5, 6
)

// newTable returns a table with room for at least a number of entries.
func newTable(minute int64, entries int) *table {
	return &table{minute: minute, cells: make([]cell, max(minCells, entries+entries/reserve))}
}

// find returns the cell of a kind and two ids, or nil. Without the lock it may miss a cell that was just set.
func (t *table) find(k kind, appID, tokenID string) *cell {
	for i := k.first(len(t.cells)); ; {
		c := &t.cells[i]
		switch kind(c.kind.Load()) {
		case k:
			first := t.textOf(c, k)
			if part(first, 0, k.app()) == appID && part(first, k.app(), k.token()) == tokenID {
				return c
			}
		case 0:
			return nil
		}
		if i++; i == len(t.cells) {
			i = 0
		}
	}
}

// free returns the empty cell for a kind that the table does not have.
func (t *table) free(k kind) *cell {
	i := k.first(len(t.cells))
	for t.cells[i].kind.Load() != 0 {
		if i++; i == len(t.cells) {
			i = 0
		}
	}
	return &t.cells[i]
}

// textOf returns a pointer to the two ids of a cell.
func (t *table) textOf(c *cell, k kind) *byte {
	if k.long() {
		return t.texts.Load().at(c.place())
	}
	return &c.text[0]
}

// full tells whether the table must grow before the next insertion.
func (t *table) full() bool { return outOf*(t.count+1) > fullest*len(t.cells) }

// grown returns a larger table with the same entries, which replaces this one. It takes every count, so
// additions to the old cells fail and are made again.
func (t *table) grown() *table {
	more := newTable(t.minute, len(t.cells))
	more.texts.Store(t.texts.Load())
	more.count, more.left = t.count, t.left
	for i := range t.cells {
		c := &t.cells[i]
		if k := kind(c.kind.Load()); k != 0 {
			more.free(k).set(k, &c.text, c.seal())
		}
	}
	return more
}

// insert adds a new entry with a count of 1. The table must not be full, and the ids must fit.
func (t *table) insert(k kind, appID, tokenID string) {
	var text [textSize]byte
	if k.long() {
		if t.texts.Load() == nil {
			t.texts.Store(new(texts))
		}
		binary.LittleEndian.PutUint32(text[:], t.texts.Load().add(appID, tokenID))
	} else {
		copy(text[copy(text[:], appID):], tokenID)
	}
	t.free(k).set(k, &text, 1)
	t.count++
	t.left++
}

// take takes the count of the next entry. An entry must be left. Nothing may be inserted afterwards.
func (t *table) take() Count {
	for t.cells[t.at].kind.Load() == 0 {
		t.at++
	}
	c := &t.cells[t.at]
	t.at++
	t.left--
	k := kind(c.kind.Load())
	first := t.textOf(c, k)
	return Count{
		AppID: part(first, 0, k.app()), TokenID: part(first, k.app(), k.token()),
		Scope: k.scope(), Reason: k.reason(), Enforced: k.enforced(), Minute: time.UnixMilli(t.minute * minuteMillis), N: c.seal(),
	}
}
