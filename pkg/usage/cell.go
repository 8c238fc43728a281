package usage

import (
	"encoding/binary"
	"math"
	"sync/atomic"
	"unsafe"

	"github.com/countersign/countersign/pkg/policy"
)

// kind is what a decision is counted by besides the two ids, with the lengths of these and a part of the
// spot. It is never 0, for the length of an app id is not. From the lowest bit:
//
//	tag (24) | length of the token id (16) | of the app id (8) | scope (8) | reason (7) | enforced (1)
type kind uint64

const (
	tagBits       = 24
	tokenShift    = tagBits
	appShift      = tokenShift + 16
	scopeShift    = appShift + 8
	reasonShift   = scopeShift + 8
	enforcedShift = reasonShift + 7
)

// kindOf returns a kind without its tag.
func kindOf(app, token int, scope policy.Scope, reason policy.Reason, enforced bool) kind {
	k := kind(uint16(token))<<tokenShift | kind(uint8(app))<<appShift | kind(scope)<<scopeShift | kind(reason)<<reasonShift
	if enforced {
		k |= 1 << enforcedShift
	}
	return k
}

func (k kind) tagged(spot Spot) kind { return k | kind(spot&(1<<tagBits-1)) }

// first returns the number of n to begin with in a search (Lemire, Fast Random Integer Generation in an
// Interval, 2019).
func (k kind) first(n int) int { return int(uint64(k&(1<<tagBits-1)) * uint64(n) >> tagBits) }

func (k kind) app() int              { return int(uint8(k >> appShift)) }
func (k kind) token() int            { return int(uint16(k >> tokenShift)) }
func (k kind) long() bool            { return k.app()+k.token() > textSize }
func (k kind) scope() policy.Scope   { return policy.Scope(k >> scopeShift) }
func (k kind) reason() policy.Reason { return policy.Reason(k >> reasonShift & 0x7f) }
func (k kind) enforced() bool        { return k>>enforcedShift != 0 }
func fits(appID, tokenID string) bool {
	return appID != "" && len(appID) <= math.MaxUint8 && len(tokenID) <= math.MaxUint16
}

// cell is one entry, or nothing. It is as large as a line of the processor's cache, so that to count is to
// wait for memory once.
type cell struct {
	count atomic.Uint64
	// kind is 0 while there is nothing. Whoever sees another one sees the text, which does not change any
	// more.
	kind atomic.Uint64
	// text is the app id and the token id, one after the other; or their place in the table's texts, when
	// they are longer.
	text [textSize]byte
}

const textSize = 48

// sealed is the mark of a count that was taken. No count gets that large.
const sealed = 1 << 63

// add adds 1, and returns false when the count was taken before.
func (c *cell) add() bool { return c.count.Add(1) < sealed }

// seal takes the count.
func (c *cell) seal() uint64 { return c.count.Swap(sealed) }

// place is that of a text that is long.
func (c *cell) place() uint32 { return binary.LittleEndian.Uint32(c.text[:]) }

// set writes to a cell with nothing in it.
func (c *cell) set(k kind, text *[textSize]byte, count uint64) {
	c.text = *text
	c.count.Store(count)
	c.kind.Store(uint64(k))
}

// part returns a part of what begins at a byte. An empty one may be where the memory ends, to which nothing
// may point.
func part(first *byte, from, size int) string {
	if size == 0 {
		return ""
	}
	return unsafe.String((*byte)(unsafe.Add(unsafe.Pointer(first), from)), size)
}
