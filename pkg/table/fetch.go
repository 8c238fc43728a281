package table

import (
	"unsafe"

	"github.com/countersign/countersign/pkg/internal/prefetch"
)

// What a decision needs lies anywhere in memory: first a slot, then a row. Both are asked for as soon as it
// is known where they are, and something else is done meanwhile.

// mostFetched is how many lines of a row are asked for: all of it when the app has ten tokens. Of a longer
// one it is not known which will be needed, past its beginning.
const mostFetched = 16

// linesOf returns how many cache lines a row of a size lies on, or maxLines. Chunks begin with a line.
func linesOf(at, size int) uint64 {
	return uint64(min((at+size-1)/prefetch.Line-at/prefetch.Line+1, maxLines))
}

// fetchSlot asks for the slot from which an app is sought, and for those on the next line where that is near.
func (c *content) fetchSlot(k key) {
	at := unsafe.Pointer(&c.slots[k.first(len(c.slots))])
	prefetch.Lines(at, 1+int(uintptr(at)%prefetch.Line/(prefetch.Line/2)))
}

// fetchRow asks for the row that is, in all likelihood, the app's.
func (c *content) fetchRow(k key) {
	i := k.first(len(c.slots))
	for {
		slot := c.slots[i].Load()
		if slot == 0 {
			return
		}
		if slot>>tagShift == k.tag()>>tagShift {
			chunk := *c.chunks[slot>>chunkShift&chunkMask].Load()
			prefetch.Lines(unsafe.Pointer(&chunk[uint32(slot)]), min(int(slot>>linesShift&maxLines), mostFetched))
			return
		}
		if i++; i == len(c.slots) {
			i = 0
		}
	}
}
