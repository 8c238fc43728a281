package policy

import (
	"encoding/binary"
	"math"
	"unsafe"

	"github.com/countersign/countersign/pkg/secret"
)

// A packed policy is a header, the first bytes of every digest in ascending order, a row for each token in
// the same order, the ids, and the memory. Numbers are little-endian:
//
//	header    flags (1) | tokens (2) | enforced (8) | enforced after the trial (8) | end of the trial (8)
//	prefixes  first bytes of the digest (4), for each token
//	rows      rest of the digest (28) | scopes (8) | expiry (8) | state (1) | order (2) | end of the id (4)
//	ids       one after the other
//	memory    first bytes of each remembered digest (8), to the end; most policies have none
//
// The order of a row is the token's index by creation. A lookup reads the prefixes, then usually one row. The
// prefixes of ten tokens fit in one cache line.
const (
	headerSize = 1 + 2 + 8 + 8 + 8
	digestSize = len(secret.Digest{})
	prefixSize = 4
	rowSize    = digestSize - prefixSize + 8 + 8 + 1 + 2 + 4

	scopesAt = digestSize - prefixSize
	expiryAt = scopesAt + 8
	stateAt  = expiryAt + 8
	placeAt  = stateAt + 1
	idEndAt  = placeAt + 2
)

// Bounds of a packed policy.
const (
	// MaxTokens is the most tokens of a policy; B01 allows far fewer.
	MaxTokens = math.MaxUint16
	// MaxTokenIDLength is the most bytes of a token's id.
	MaxTokenIDLength = math.MaxUint16
)

// Flags of a policy, and of a token's state.
const (
	flagDeleted        = 1 << 0
	flagImported       = 1 << 1
	flagMemoryImported = 1 << 2

	stateImported = 1 << 7
)

// Packed returns the policy as bytes for Unpack. Equal policies give equal bytes.
func (p *Policy) Packed() string { return p.data }

// Unpack returns the policy whose Packed gave the bytes. It shares the bytes, which must not change.
func Unpack(data string) Policy { return Policy{data} }

func pack(e Enforcement, tokens []Token, sorted []int, deleted bool, memory Memory) string {
	ids := 0
	for i := range tokens {
		ids += len(tokens[i].ID)
	}
	rows := headerSize + prefixSize*len(tokens)
	size := rows + rowSize*len(tokens) + ids + len(memory.prefixes)
	b := make([]byte, rows, size)
	if deleted {
		b[0] |= flagDeleted
	}
	if memory.Imported {
		b[0] |= flagMemoryImported
	}
	binary.LittleEndian.PutUint16(b[1:], uint16(len(tokens)))
	binary.LittleEndian.PutUint64(b[3:], uint64(e.Scopes))
	binary.LittleEndian.PutUint64(b[11:], uint64(e.After))
	binary.LittleEndian.PutUint64(b[19:], uint64(e.TrialEndMillis))
	end := 0
	for n, i := range sorted {
		t := &tokens[i]
		end += len(t.ID)
		copy(b[headerSize+prefixSize*n:], t.Digest[:prefixSize])
		state := byte(t.State)
		if t.Imported {
			b[0] |= flagImported
			state |= stateImported
		}
		b = append(b, t.Digest[prefixSize:]...)
		b = binary.LittleEndian.AppendUint64(b, uint64(t.Scopes))
		b = binary.LittleEndian.AppendUint64(b, uint64(t.ExpireMillis))
		b = append(b, state)
		b = binary.LittleEndian.AppendUint16(b, uint16(i))
		b = binary.LittleEndian.AppendUint32(b, uint32(end))
	}
	for _, i := range sorted {
		b = append(b, tokens[i].ID...)
	}
	return text(append(b, memory.prefixes...))
}

// Deleted reports whether the app was deleted.
func (p *Policy) Deleted() bool { return p.data[0]&flagDeleted != 0 }

// imported reports whether any token was imported, remembered ones included.
func (p *Policy) imported() bool { return p.data[0]&(flagImported|flagMemoryImported) != 0 }

// Memory returns the remembered digests of tokens that are no longer listed. It shares memory with the
// policy.
func (p *Policy) Memory() Memory {
	end := headerSize + (prefixSize+rowSize)*p.Len()
	if n := p.Len(); n > 0 {
		last := p.row(n - 1)
		end += int(binary.LittleEndian.Uint32(last.b[idEndAt:]))
	}
	return Memory{p.data[end:], p.data[0]&flagMemoryImported != 0}
}

// Len returns the number of tokens.
func (p *Policy) Len() int { return int(binary.LittleEndian.Uint16(view(p.data[1:3]))) }

// Enforcement returns which scopes are enforced.
func (p *Policy) Enforcement() Enforcement {
	b := view(p.data[3:headerSize])
	return Enforcement{
		Scopes:         ScopeSet(binary.LittleEndian.Uint64(b)),
		After:          ScopeSet(binary.LittleEndian.Uint64(b[8:])),
		TrialEndMillis: int64(binary.LittleEndian.Uint64(b[16:])),
	}
}

// Tokens returns the tokens in order of creation. Their ids share memory with the policy.
func (p *Policy) Tokens() []Token {
	tokens := make([]Token, p.Len())
	for n := range tokens {
		r := p.row(n)
		tokens[r.place()] = r.token()
	}
	return tokens
}

// view returns the bytes of a string without a copy. They must not be written to.
func view(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// row is a token of a packed policy.
type row struct {
	p *Policy
	n int
	b []byte
}

func (p *Policy) row(n int) row {
	at := headerSize + prefixSize*p.Len() + rowSize*n
	return row{p, n, view(p.data[at : at+rowSize])}
}

func (r *row) place() int { return int(binary.LittleEndian.Uint16(r.b[placeAt:])) }

func (r *row) scopes() ScopeSet { return ScopeSet(binary.LittleEndian.Uint64(r.b[scopesAt:])) }

func (r *row) covers(s Scope) bool { return covers(r.scopes(), s) }

func (r *row) stateAt(nowMillis int64) State {
	return stateOf(State(r.b[stateAt]&^stateImported), int64(binary.LittleEndian.Uint64(r.b[expiryAt:])), nowMillis)
}

// id shares memory with the policy.
func (r *row) id() string {
	rows := headerSize + prefixSize*r.p.Len()
	ids, begin := rows+rowSize*r.p.Len(), 0
	if r.n > 0 {
		before := rows + rowSize*(r.n-1) + idEndAt
		begin = int(binary.LittleEndian.Uint32(view(r.p.data[before : before+4])))
	}
	return r.p.data[ids+begin : ids+int(binary.LittleEndian.Uint32(r.b[idEndAt:]))]
}

func (r *row) token() Token {
	t := Token{
		ID: r.id(), Scopes: r.scopes(), State: State(r.b[stateAt] &^ stateImported),
		ExpireMillis: int64(binary.LittleEndian.Uint64(r.b[expiryAt:])), Imported: r.b[stateAt]&stateImported != 0,
	}
	copy(t.Digest[:], r.p.data[headerSize+prefixSize*r.n:][:prefixSize])
	copy(t.Digest[prefixSize:], r.b)
	return t
}

// linear is up to how many prefixes a search compares one by one, which is faster than a binary search for a
// few.
const linear = 16

// find returns the row of the token with a digest.
func (p *Policy) find(d *secret.Digest) (row, bool) {
	count := p.Len()
	prefixes := view(p.data[headerSize : headerSize+prefixSize*count])
	want := binary.BigEndian.Uint32(d[:])
	low, high := 0, count
	for high-low > linear {
		middle := int(uint(low+high) / 2)
		if binary.BigEndian.Uint32(prefixes[prefixSize*middle:]) < want {
			low = middle + 1
		} else {
			high = middle
		}
	}
	for ; low < count; low++ {
		switch got := binary.BigEndian.Uint32(prefixes[prefixSize*low:]); {
		case got > want:
			return row{}, false
		case got == want:
			if r := p.row(low); string(r.b[:scopesAt]) == string(d[prefixSize:]) {
				return r, true
			}
		}
	}
	return row{}, false
}
