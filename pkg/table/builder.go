package table

import (
	"sync/atomic"

	"github.com/countersign/countersign/pkg/policy"
)

// builder makes a content of rows of which it is known how many there are, and how many bytes.
type builder struct {
	content *content
	// rest is how many bytes are still to come, share is the size of a chunk, chunk what is taken of the
	// last one.
	rest, share int
	chunk       []byte
}

const (
	// builtChunks are the most chunks that are made, give or take the one that is left over, and builtSize
	// is what is not divided: memory is cleared by whoever takes it, a chunk without a break. Smaller ones
	// would not be worth a large page.
	builtChunks = 32
	builtSize   = 1 << 20
	// largestChunk is the most bytes of a chunk: a slot says where a row is in 32 bits.
	largestChunk = 1 << 30
)

func newBuilder(apps, size int) *builder {
	b := &builder{content: &content{slots: make([]atomic.Uint64, max(apps+apps/2, minSlots)), last: -1}, rest: size}
	b.share = min(max(size/builtChunks, builtSize), largestChunk)
	b.next(0)
	return b
}

// next begins a chunk in which a row of a size fits.
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

// begin sets the slot of an app that has none yet, and returns the chunk to which its row, of a size, is to
// be appended.
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
