package record

import (
	"encoding/binary"
	"math/bits"

	"github.com/countersign/countersign/pkg/keyring"
)

// Sum is the state digest of a partition: the sum mod 2^256 of HMAC(app_id, revision) over its documents. A
// document's own MAC binds its content to (app_id, revision), so equal sums mean equal content. A change
// updates it by subtracting the old element and adding the new one. The order of documents does not matter.
//
// Only sums of one key can be compared. The zero value is the empty partition under the current key.
//
// A sum is never stored. Heads carry its seal (Codec.SealSum), so that somebody who reads Redis cannot
// combine sums.
type Sum struct {
	key   string // the id of its key; empty for the current key
	words [4]uint64
}

// SealedSum is the seal of a sum, as heads carry it. It is comparable with ==.
type SealedSum struct {
	// Key is the id of the key that made and sealed the sum. It stays when another key becomes current,
	// because a new key would need a new sum over all documents.
	Key string
	MAC [keyring.MACSize]byte
}

// EmptySum returns the sum of an empty partition under the same key.
func (s SealedSum) EmptySum() Sum { return Sum{key: s.Key} }

// Empty returns the sum of an empty partition under the same key.
func (s Sum) Empty() Sum { return Sum{key: s.key} }

// Key returns the id of the sum's key; empty for the current key.
func (s Sum) Key() string { return s.key }

// Add returns a sum with one more document.
func (c *Codec) Add(s Sum, partition int, appID string, revision uint64) Sum {
	return s.Plus(c.element(c.keyOf(s), partition, appID, revision))
}

// Remove returns a sum without a document.
func (c *Codec) Remove(s Sum, partition int, appID string, revision uint64) Sum {
	return s.Minus(c.element(c.keyOf(s), partition, appID, revision))
}

// SealSum returns the seal of a sum.
func (c *Codec) SealSum(partition int, s Sum) SealedSum {
	kindPart, storePart, partitionPart := c.scope(kindStateDigest, partition)
	var raw [32]byte
	for i, word := range s.words {
		binary.BigEndian.PutUint64(raw[8*i:], word)
	}
	sealed := SealedSum{Key: c.keyOf(s)}
	// A key comes from the ring or from a record that was opened, so it is known.
	sealed.MAC, _ = c.ring.SignWith(sealed.Key, kindPart, storePart, partitionPart, raw[:])
	return sealed
}

func (c *Codec) keyOf(s Sum) string {
	if s.key == "" {
		return c.ring.Current()
	}
	return s.key
}

func (c *Codec) element(key string, partition int, appID string, revision uint64) Sum {
	kindPart, storePart, partitionPart := c.scope(kindStateElement, partition)
	var rev [8]byte
	binary.BigEndian.PutUint64(rev[:], revision)
	mac, _ := c.ring.SignWith(key, kindPart, storePart, partitionPart, []byte(appID), rev[:])
	return sumOf(key, mac)
}

func sumOf(key string, raw [32]byte) Sum {
	s := Sum{key: key}
	for i := range s.words {
		s.words[i] = binary.BigEndian.Uint64(raw[8*i:])
	}
	return s
}

// Plus returns s + t mod 2^256. Both must be of one key.
func (s Sum) Plus(t Sum) Sum {
	sum := Sum{key: max(s.key, t.key)} // an empty key takes the other's
	var carry uint64
	for i := len(s.words) - 1; i >= 0; i-- {
		sum.words[i], carry = bits.Add64(s.words[i], t.words[i], carry)
	}
	return sum
}

// Minus returns s - t mod 2^256. Both must be of one key.
func (s Sum) Minus(t Sum) Sum {
	difference := Sum{key: max(s.key, t.key)}
	var borrow uint64
	for i := len(s.words) - 1; i >= 0; i-- {
		difference.words[i], borrow = bits.Sub64(s.words[i], t.words[i], borrow)
	}
	return difference
}
