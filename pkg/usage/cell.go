package usage

import (
	"encoding/binary"
	"math"
	"sync/atomic"
	"unsafe"

	"github.com/countersign/countersign/pkg/policy"
)

// kind packs all that a decision is counted by except the two ids, with the lengths of the ids and a part
// of the spot. It is never 0, because an app id is not empty. From the lowest bit:
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

// first returns the index below n at which a search begins (Lemire, Fast Random Integer Generation in an
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

// cell is an entry or empty. It is as large as a cache line, so that counting waits for memory once.
type cell struct {
	count atomic.Uint64
	// kind is 0 while the cell is empty. It is set after the text, which then never changes.
	kind atomic.Uint64
	// text is the app id followed by the token id, or their position in the table's texts if they are longer.
	text [textSize]byte
}

const textSize = 48

// sealed marks a count that was taken. No count gets that large.
const sealed = 1 << 63

// add adds 1. It returns false when the count was taken before.
func (c *cell) add() bool { return c.count.Add(1) < sealed }

// seal takes the count and marks it as taken.
func (c *cell) seal() uint64 { return c.count.Swap(sealed) }

// place returns the position of a long text.
func (c *cell) place() uint32 { return binary.LittleEndian.Uint32(c.text[:]) }

// set fills an empty cell.
func (c *cell) set(k kind, text *[textSize]byte, count uint64) {
	c.text = *text
	c.count.Store(count)
	c.kind.Store(uint64(k))
}

// part returns a part of the text at a byte. An empty part may begin at the end of the memory, where no
// pointer may point, so it gets none.
func part(first *byte, from, size int) string {
	if size == 0 {
		return ""
	}
	return unsafe.String((*byte)(unsafe.Add(unsafe.Pointer(first), from)), size)
}
