package record

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"

	"github.com/countersign/countersign/pkg/keyring"
)

// FileID names one file of records, so that nothing of it can be taken for a part of another.
type FileID [16]byte

// NewFileID returns a random id.
func NewFileID() (id FileID) {
	_, _ = rand.Read(id[:]) // never fails since Go 1.24
	return id
}

// SealFileHeader signs what a file begins with. It says which store the file is of, so it needs no codec.
func SealFileHeader(ring *keyring.Ring, payload []byte) []byte {
	return (&Codec{ring: ring}).sealFile(kindFileHeader, FileID{}, 0, payload)
}

// OpenFileHeader verifies what a file begins with. It returns the id of the key that signed it, too.
func OpenFileHeader(ring *keyring.Ring, raw []byte) (payload []byte, keyID string, err error) {
	return (&Codec{ring: ring}).openFile(kindFileHeader, FileID{}, 0, raw)
}

// SealFileRecord signs the record of a file with a number: it opens under that number of that file and
// nowhere else.
func (c *Codec) SealFileRecord(file FileID, number uint64, payload []byte) []byte {
	return c.sealFile(kindFileRecord, file, number, payload)
}

// OpenFileRecord verifies the record of a file with a number. What it returns is part of raw.
func (c *Codec) OpenFileRecord(file FileID, number uint64, raw []byte) ([]byte, error) {
	payload, _, err := c.openFile(kindFileRecord, file, number, raw)
	return payload, err
}

// sealFile returns the length of the key's id, the id, the MAC and the payload. Unlike a SealedRecord it
// can be written in one way only, so that a file that was touched at all does not open.
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

// HideSum returns a sum in a form that may be written to a file, and the id of its key: whoever reads many
// sums could find documents that add up to the same (see Sum). RevealSum is its inverse.
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

// pad is used for one sum only: that of a partition in a file.
func (c *Codec) pad(keyID string, file FileID, partition int) Sum {
	kindPart, storePart, partitionPart := c.scope(kindFileSum, partition)
	mac, _ := c.ring.SignWith(keyID, kindPart, storePart, partitionPart, file[:])
	return sumOf(keyID, mac)
}
