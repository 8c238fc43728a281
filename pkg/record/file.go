package record

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"

	"github.com/countersign/countersign/pkg/keyring"
)

// FileID names one file of records. It is part of every MAC, so that no record of one file passes in another.
type FileID [16]byte

// NewFileID returns a random id.
func NewFileID() (id FileID) {
	_, _ = rand.Read(id[:]) // never fails since Go 1.24
	return id
}

// SealFileHeader signs the header of a file. The header names the file's store, so this is no method of
// Codec.
func SealFileHeader(ring *keyring.Ring, payload []byte) []byte {
	return (&Codec{ring: ring}).sealFile(kindFileHeader, FileID{}, 0, payload)
}

// OpenFileHeader verifies the header of a file. It also returns the id of the key that signed it.
func OpenFileHeader(ring *keyring.Ring, raw []byte) (payload []byte, keyID string, err error) {
	return (&Codec{ring: ring}).openFile(kindFileHeader, FileID{}, 0, raw)
}

// SealFileRecord signs one numbered record of a file. It opens only under this number in this file.
func (c *Codec) SealFileRecord(file FileID, number uint64, payload []byte) []byte {
	return c.sealFile(kindFileRecord, file, number, payload)
}

// OpenFileRecord verifies one numbered record of a file. The result is a part of raw.
func (c *Codec) OpenFileRecord(file FileID, number uint64, raw []byte) ([]byte, error) {
	payload, _, err := c.openFile(kindFileRecord, file, number, raw)
	return payload, err
}

// sealFile returns the length of the key's id, the id, the MAC and the payload. Unlike a SealedRecord this
// has only one encoding, so any edit of a file shows.
func (c *Codec) sealFile(k kind, file FileID, number uint64, payload []byte) []byte {
	id, mac := c.ring.Sign(c.fileParts(k, file, number, payload)...)
	raw := make([]byte, 0, 1+len(id)+len(mac)+len(payload))
	raw = append(raw, byte(len(id)))
	raw = append(raw, id...)
	raw = append(raw, mac[:]...)
	return append(raw, payload...)
}

func (c *Codec) openFile(k kind, file FileID, number uint64, raw []byte) (payload []byte, keyID string, err error) {
	if len(raw) < 1 || len(raw) < 1+int(raw[0])+keyring.MACSize {
		return nil, "", fmt.Errorf("%w %s: too short", ErrMalformed, k)
	}
	after := 1 + int(raw[0])
	keyID, rest := string(raw[1:after]), raw[after:]
	mac, payload := rest[:keyring.MACSize], rest[keyring.MACSize:]
	if err := c.ring.Verify(keyID, mac, c.fileParts(k, file, number, payload)...); err != nil {
		return nil, "", fmt.Errorf("record %s: %w", k, err)
	}
	return payload, keyID, nil
}

func (c *Codec) fileParts(k kind, file FileID, number uint64, payload []byte) [][]byte {
	kindPart, storePart, _ := c.scope(k, 0)
	return [][]byte{kindPart, storePart, file[:], binary.BigEndian.AppendUint64(nil, number), payload}
}

// HideSum encrypts a sum for a file, and returns the id of its key. Somebody who reads many plain sums could
// find documents with equal sums (see Sum). RevealSum is its inverse.
func (c *Codec) HideSum(file FileID, partition int, s Sum) (raw []byte, keyID string) {
	keyID = c.keyOf(s)
	for _, word := range s.Plus(c.pad(keyID, file, partition)).words {
		raw = binary.BigEndian.AppendUint64(raw, word)
	}
	return raw, keyID
}

// RevealSum returns the sum that HideSum was given.
func (c *Codec) RevealSum(file FileID, partition int, raw []byte, keyID string) (Sum, error) {
	var words [32]byte
	if copy(words[:], raw) != len(raw) || len(raw) != len(words) {
		return Sum{}, fmt.Errorf("%w sum", ErrMalformed)
	}
	if _, err := c.ring.SignWith(keyID); err != nil {
		return Sum{}, fmt.Errorf("record %s: %w", kindFileSum, err)
	}
	return sumOf(keyID, words).Minus(c.pad(keyID, file, partition)), nil
}

// pad returns the one-time pad for the sum of one partition in one file.
func (c *Codec) pad(keyID string, file FileID, partition int) Sum {
	kindPart, storePart, partitionPart := c.scope(kindFileSum, partition)
	mac, _ := c.ring.SignWith(keyID, kindPart, storePart, partitionPart, file[:])
	return sumOf(keyID, mac)
}
