package record

import (
	"encoding/binary"
	"math/bits"

	"github.com/countersign/countersign/pkg/keyring"
)

// Sum is the state of a partition in 256 bits: the sum mod 2^256 of HMAC(app_id, revision) over its documents. A
// document's own MAC binds its content to (app_id, revision), so equal sums mean equal content. It is cheap to keep
// up (subtract the old element, add the new) and does not depend on order. The zero value is the empty partition.
//
// A sum is never stored: heads carry Codec.SealSum of it, so that whoever reads Redis cannot combine sums.
type Sum [4]uint64

// Element returns what a document adds to the sum.
func (c *Codec) Element(partition int, appID string, revision uint64) Sum {
	kindPart, storePart, partitionPart := c.scope(kindStateElement, partition)
	var rev [8]byte
	binary.BigEndian.PutUint64(rev[:], revision)
	_, mac := c.ring.Sign(kindPart, storePart, partitionPart, []byte(appID), rev[:])
	var s Sum
	for i := range s {
		s[i] = binary.BigEndian.Uint64(mac[8*i:])
	}
	return s
}

// SealSum returns what a head carries of a sum.
func (c *Codec) SealSum(partition int, s Sum) (sealed [keyring.MACSize]byte) {
	kindPart, storePart, partitionPart := c.scope(kindStateDigest, partition)
	var raw [32]byte
	for i, word := range s {
		binary.BigEndian.PutUint64(raw[8*i:], word)
	}
	_, sealed = c.ring.Sign(kindPart, storePart, partitionPart, raw[:])
	return sealed
}

// Plus returns s + t mod 2^256.
func (s Sum) Plus(t Sum) Sum {
	var carry uint64
	for i := len(s) - 1; i >= 0; i-- {
		s[i], carry = bits.Add64(s[i], t[i], carry)
	}
	return s
}

// Minus returns s - t mod 2^256.
func (s Sum) Minus(t Sum) Sum {
	var borrow uint64
	for i := len(s) - 1; i >= 0; i-- {
		s[i], borrow = bits.Sub64(s[i], t[i], borrow)
	}
	return s
}
