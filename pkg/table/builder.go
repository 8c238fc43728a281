package table

import (
	"sync/atomic"

	"github.com/countersign/countersign/pkg/policy"
)

// builder makes a content of rows of which it is known how many there are, and how many bytes.
type builder struct {
	content *content
	// rest is how many bytes are still to come, chunk what is taken of the last chunk.
	rest  int
	chunk []byte
}

// largestChunk is the most bytes of a chunk: a slot says where a row is in 32 bits.
const largestChunk = 1 << 30

func newBuilder(apps, size int) *builder {
	b := &builder{content: &content{slots: make([]atomic.Uint64, max(apps+apps/2, minSlots)), last: -1}, rest: size}
	b.next(0)
	return b
}

// next begins a chunk in which a row of a size fits.
func (b *builder) next(size int) {
	b.keep()
	b.chunk = make([]byte, 0, max(size, min(b.rest, largestChunk)))
	b.content.last++
}

func (b *builder) keep() {
	if b.content.last >= 0 {
		chunk := b.chunk
		b.content.chunks[b.content.last].Store(&chunk)
	}
}

// begin sets the slot of an app that has none yet, and returns the chunk to which its row, of a size, is to be appended.
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
	slots[i].Store(slotOf(k, b.content.last, len(b.chunk)))
	return b.chunk
}

func (b *builder) end() *content {
	b.keep()
	return b.content
}
