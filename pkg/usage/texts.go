package usage

import (
	"math/bits"
	"sync/atomic"
	"unsafe"
)

// texts holds the long texts of a table. A text never moves. Only one goroutine may add texts at a time.
type texts struct {
	// chunks are set before a position in them is used. Each is twice as large as the previous one.
	chunks [32 - minChunkBits]atomic.Pointer[byte]
	end    uint32 // the next position
}

// A position starts at 1<<minChunkBits. Its highest bit selects the chunk, and the other bits are the
// offset in it.
const minChunkBits = 10

// add copies two strings, one after the other, and returns their position. Together they must not be empty.
func (t *texts) add(one, other string) uint32 {
	size := uint32(len(one) + len(other))
	t.end = max(t.end, 1<<minChunkBits)
	chunk := bits.Len32(t.end) - 1
	for t.end-1<<chunk+size > 1<<chunk {
		chunk++
		t.end = 1 << chunk
	}
	if p := &t.chunks[chunk-minChunkBits]; p.Load() == nil {
		p.Store(unsafe.SliceData(make([]byte, 1<<chunk)))
	}
	position := t.end
	t.end += size
	text := unsafe.Slice(t.at(position), size)
	copy(text[copy(text, one):], other)
	return position
}

// at returns a pointer to the text at a position.
func (t *texts) at(position uint32) *byte {
	chunk := bits.Len32(position) - 1
	return (*byte)(unsafe.Add(unsafe.Pointer(t.chunks[chunk-minChunkBits].Load()), position-1<<chunk))
}
