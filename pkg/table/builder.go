package table

import (
	"sync/atomic"

	"github.com/countersign/countersign/pkg/policy"
)

// builder makes a content when the number of rows and their total size are known.
type builder struct {
	content *content
	// rest is how many bytes are still to be added, share the size of a chunk, chunk the used part of the
	// last chunk.
	rest, share int
	chunk       []byte
}

const (
	// A builder makes about builtChunks chunks, and none below builtSize. Go clears a new chunk without a
	// break, so chunks must not be too large. Smaller chunks would not be worth a huge page.
	builtChunks = 32
	builtSize   = 1 << 20
	// largestChunk is the most bytes of a chunk, since a slot has 32 bits for the offset of a row.
	largestChunk = 1 << 30
)

func newBuilder(apps, size int) *builder {
	b := &builder{content: &content{slots: make([]atomic.Uint64, max(apps+apps/2, minSlots)), last: -1}, rest: size}
	b.share = min(max(size/builtChunks, builtSize), largestChunk)
	b.next(0)
	return b
}

// next begins a chunk with room for a row of the given size.
func (b *builder) next(size int) {
	b.keep()
	b.chunk = make([]byte, 0, max(size, min(b.rest, b.share)))
	hugePages(b.chunk)
	b.content.last++
}

func (b *builder) keep() {
	if b.content.last >= 0 {
		chunk := b.chunk
		b.content.chunks[b.content.last].Store(&chunk)
	}
}

// begin sets the slot of an app that has none yet. It returns the chunk to which the app's row, of the given
// size, must be appended.
func (b *builder) begin(appID string, size int) []byte {
	if len(b.chunk)+size > cap(b.chunk) {
		b.next(size)
	}
	b.rest -= size
	hash := policy.HashApp(appID)
	k := keyOf(&hash)
	slots := b.content.slots
	i := k.first(len(slots))
	for slots[i].Load() != 0 {
		i = (i + 1) % len(slots)
	}
	slots[i].Store(slotOf(k, b.content.last, len(b.chunk), size))
	return b.chunk
}

func (b *builder) end() *content {
	b.keep()
	return b.content
}
