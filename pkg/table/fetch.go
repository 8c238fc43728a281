package table

import (
	"unsafe"

	"github.com/countersign/countersign/pkg/internal/prefetch"
)

// A decision reads memory in two places: a slot, then a row. The functions here prefetch each as soon as its
// address is known, and other work is done meanwhile.

// mostFetched is how many cache lines of a row are prefetched: the whole row of an app with ten tokens. It is
// unknown which later lines of a longer row a decision needs.
const mostFetched = 16

// linesOf returns how many cache lines a row of the given size covers, at most maxLines. Chunks are aligned
// to cache lines.
func linesOf(at, size int) uint64 {
	return uint64(min((at+size-1)/prefetch.Line-at/prefetch.Line+1, maxLines))
}

// fetchSlot prefetches the slot where the search for an app begins, and the next cache line when the slot is
// near its end.
func (c *content) fetchSlot(k key) {
	at := unsafe.Pointer(&c.slots[k.first(len(c.slots))])
	prefetch.Lines(at, 1+int(uintptr(at)%prefetch.Line/(prefetch.Line/2)))
}

// fetchRow prefetches the row that is most likely the app's.
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
