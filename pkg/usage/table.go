package usage

import (
	"encoding/binary"
	"sync/atomic"
	"time"
)

// table is what was counted in one minute: a hash table with linear probing (Knuth, The Art of Computer
// Programming, 6.4), without pointers, so that the garbage collector has nothing to look at. Counts are
// added to at any time; what else changes a table needs one caller at a time.
type table struct {
	minute int64
	cells  []cell
	texts  atomic.Pointer[texts] // nil until there is a long one

	count int // how many entries there are
	at    int // the number of the next cell to be taken
	left  int // how many entries are to be taken
}

const (
	minCells = 8
	// A table is made, and made anew, with cells for half as many entries more. It is full when a sixth of
	// its cells is free.
	reserve        = 2
	fullest, outOf = 5, 6
)

// newTable returns a table for some number of entries, or more.
func newTable(minute int64, entries int) *table {
	return &table{minute: minute, cells: make([]cell, max(minCells, entries+entries/reserve))}
}

// find returns the cell of a kind and two ids, or nil. Without the lock it may miss one that has just been
// made.
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

// free returns the cell for a kind that is not there.
func (t *table) free(k kind) *cell {
	i := k.first(len(t.cells))
	for t.cells[i].kind.Load() != 0 {
		if i++; i == len(t.cells) {
			i = 0
		}
	}
	return &t.cells[i]
}

// textOf returns the first byte of the two ids of a cell.
func (t *table) textOf(c *cell, k kind) *byte {
	if k.long() {
		return t.texts.Load().at(c.place())
	}
	return &c.text[0]
}

// full tells whether there should be more cells before anything is inserted.
func (t *table) full() bool { return outOf*(t.count+1) > fullest*len(t.cells) }

// grown returns a table with the same entries and more cells, in place of this one. It takes every count
// from where it was: additions that come too late are made again.
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

// insert adds an entry that is not there, with a count of 1, to a table that is not full. The ids must fit.
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

// take takes the count of the next entry, of which there must be one. Nothing may be inserted after.
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
