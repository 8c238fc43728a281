package usage

import (
	"math/bits"
	"sync/atomic"
	"unsafe"
)

// texts are the long texts of a table. They do not move. Adding to them needs one caller at a time.
type texts struct {
	// chunks are set before a place in them is known. Each is twice as large as the one before.
	chunks [32 - minChunkBits]atomic.Pointer[byte]
	end    uint32 // the next place
}

// A place counts bytes from 1<<minChunkBits on, through all chunks: its highest bit says which chunk, the
// others where in it.
const minChunkBits = 10

// add returns the place of a text that it copies, which must not be empty.
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
	place := t.end
	t.end += size
	text := unsafe.Slice(t.at(place), size)
	copy(text[copy(text, one):], other)
	return place
}

// at returns the first byte at a place.
func (t *texts) at(place uint32) *byte {
	chunk := bits.Len32(place) - 1
	return (*byte)(unsafe.Add(unsafe.Pointer(t.chunks[chunk-minChunkBits].Load()), place-1<<chunk))
}
