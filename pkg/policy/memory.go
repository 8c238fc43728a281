package policy

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"iter"
	"slices"
	"sort"
	"unsafe"

	"github.com/countersign/countersign/pkg/secret"
)

// Memory holds digests of revoked tokens that an app no longer lists: their first bytes, ascending, each once
// (B08). Nothing is ever removed from it. The zero value is empty. Two memories with the same contents are
// equal (==).
//
// 64 bits are enough, since a memory only denies. A token of the policy is found first, so a shared prefix
// never denies a valid token. It can only turn TOKEN_UNKNOWN into TOKEN_REVOKED, with a probability of 2^-44
// for each unknown token when a million digests are remembered.
type Memory struct {
	prefixes string
	// Imported says that one of the tokens was imported, so that texts of any form must be looked up (B11).
	Imported bool
}

const (
	// MemorySize is how many bytes each remembered digest takes in a document, a link and a validator's
	// memory.
	MemorySize = 8
	// MaxMemory is the most digests that a memory can hold. B08 allows half as many, so that two histories of
	// an app can always be merged.
	MaxMemory = 1 << 21
)

// MemoryOf returns a memory of prefixes in the form of Bytes.
func MemoryOf(prefixes []byte, imported bool) (Memory, error) {
	n := len(prefixes) / MemorySize
	if len(prefixes)%MemorySize != 0 || n > MaxMemory {
		return Memory{}, fmt.Errorf("%d bytes of remembered digests, want %d for each of at most %d", len(prefixes), MemorySize,
			MaxMemory)
	}
	for at := MemorySize; at < len(prefixes); at += MemorySize {
		if bytes.Compare(prefixes[at-MemorySize:at], prefixes[at:at+MemorySize]) >= 0 {
			return Memory{}, fmt.Errorf("remembered digests are not in ascending order at byte %d", at)
		}
	}
	return Memory{string(prefixes), imported}, nil
}

// Bytes returns the prefixes. The caller must not change them.
func (m Memory) Bytes() []byte { return view(m.prefixes) }

// Len returns how many digests are remembered.
func (m Memory) Len() int { return len(m.prefixes) / MemorySize }

// Has reports whether a digest is remembered.
func (m Memory) Has(d *secret.Digest) bool {
	want := binary.BigEndian.Uint64(d[:])
	at := sort.Search(m.Len(), func(i int) bool { return m.prefix(i) >= want })
	return at < m.Len() && m.prefix(at) == want
}

func (m Memory) prefix(i int) uint64 { return binary.BigEndian.Uint64(view(m.prefixes[MemorySize*i:])) }

// Tokens yields a revoked token without an id for each remembered digest. The rest of its digest is zero.
func (m Memory) Tokens() iter.Seq[Token] {
	return func(yield func(Token) bool) {
		for i := range m.Len() {
			t := Token{State: Revoked}
			copy(t.Digest[:], m.prefixes[MemorySize*i:][:MemorySize])
			if !yield(t) {
				return
			}
		}
	}
}

// With returns the memory with the digests of more tokens.
func (m Memory) With(tokens ...Token) Memory {
	if len(tokens) == 0 {
		return m
	}
	added := make([]uint64, len(tokens))
	for i := range tokens {
		added[i] = binary.BigEndian.Uint64(tokens[i].Digest[:])
		m.Imported = m.Imported || tokens[i].Imported
	}
	slices.Sort(added)
	return m.merge(added)
}

// Union returns the digests of either memory.
func (m Memory) Union(other Memory) Memory {
	m.Imported = m.Imported || other.Imported
	if other.prefixes == "" || other.prefixes == m.prefixes {
		return m
	}
	return m.merge(other.numbers())
}

// Without returns the digests that another memory does not hold.
func (m Memory) Without(other Memory) Memory {
	imported := m.Imported && !other.Imported
	if m.prefixes == other.prefixes {
		return Memory{Imported: imported}
	}
	held, left := other.numbers(), make([]byte, 0, max(0, len(m.prefixes)-len(other.prefixes)))
	for _, p := range m.numbers() {
		for len(held) > 0 && held[0] < p {
			held = held[1:]
		}
		if len(held) == 0 || held[0] != p {
			left = binary.BigEndian.AppendUint64(left, p)
		}
	}
	return Memory{text(left), imported}
}

func (m Memory) numbers() []uint64 {
	all := make([]uint64, m.Len())
	for i := range all {
		all[i] = m.prefix(i)
	}
	return all
}

// merge adds ascending prefixes.
func (m Memory) merge(added []uint64) Memory {
	all := make([]byte, 0, len(m.prefixes)+MemorySize*len(added))
	for i := 0; i < m.Len() || len(added) > 0; {
		var next uint64
		switch {
		case i == m.Len(), len(added) > 0 && cmp.Less(added[0], m.prefix(i)):
			next, added = added[0], added[1:]
		default:
			next = m.prefix(i)
			i++
		}
		if n := len(all); n == 0 || binary.BigEndian.Uint64(all[n-MemorySize:]) != next {
			all = binary.BigEndian.AppendUint64(all, next)
		}
	}
	m.prefixes = text(all)
	return m
}

// text converts bytes to a string without a copy. Nobody may change them afterwards.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
