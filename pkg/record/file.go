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

// OpenFileHeader verifies what a file begins with.
func OpenFileHeader(ring *keyring.Ring, raw []byte) ([]byte, error) {
	return (&Codec{ring: ring}).openFile(kindFileHeader, FileID{}, 0, raw)
}

// SealFileRecord signs the record of a file with a number: it opens under that number of that file and nowhere else.
func (c *Codec) SealFileRecord(file FileID, number uint64, payload []byte) []byte {
	return c.sealFile(kindFileRecord, file, number, payload)
}

// OpenFileRecord verifies the record of a file with a number. What it returns is part of raw.
func (c *Codec) OpenFileRecord(file FileID, number uint64, raw []byte) ([]byte, error) {
	return c.openFile(kindFileRecord, file, number, raw)
}

// sealFile returns the length of the key's id, the id, the MAC and the payload. Unlike a SealedRecord it can be written in
// one way only, so that a file that was touched at all does not open.
func (c *Codec) sealFile(k kind, file FileID, number uint64, payload []byte) []byte {
	id, mac := c.ring.Sign(c.fileParts(k, file, number, payload)...)
	raw := make([]byte, 0, 1+len(id)+len(mac)+len(payload))
	raw = append(raw, byte(len(id)))
	raw = append(raw, id...)
	raw = append(raw, mac[:]...)
	return append(raw, payload...)
}

func (c *Codec) openFile(k kind, file FileID, number uint64, raw []byte) ([]byte, error) {
	if len(raw) < 1 || len(raw) < 1+int(raw[0])+keyring.MACSize {
		return nil, fmt.Errorf("%w %s: too short", ErrMalformed, k)
	}
	after := 1 + int(raw[0])
	id, rest := string(raw[1:after]), raw[after:]
	mac, payload := rest[:keyring.MACSize], rest[keyring.MACSize:]
	if err := c.ring.Verify(id, mac, c.fileParts(k, file, number, payload)...); err != nil {
		return nil, fmt.Errorf("record %s: %w", k, err)
	}
	return payload, nil
}

func (c *Codec) fileParts(k kind, file FileID, number uint64, payload []byte) [][]byte {
	kindPart, storePart, _ := c.scope(k, 0)
	return [][]byte{kindPart, storePart, file[:], binary.BigEndian.AppendUint64(nil, number), payload}
}

// HideSum returns a sum in a form that may be written to a file: whoever reads many sums could find documents that add
// up to the same (see Sum). RevealSum is its inverse.
func (c *Codec) HideSum(file FileID, partition int, s Sum) []byte {
	s = s.Plus(c.pad(file, partition))
	var raw []byte
	for _, word := range s {
		raw = binary.BigEndian.AppendUint64(raw, word)
	}
	return raw
}

// RevealSum returns the sum that HideSum was given.
func (c *Codec) RevealSum(file FileID, partition int, raw []byte) (s Sum, err error) {
	if len(raw) != 8*len(s) {
		return s, fmt.Errorf("%w sum", ErrMalformed)
	}
	for i := range s {
		s[i] = binary.BigEndian.Uint64(raw[8*i:])
	}
	return s.Minus(c.pad(file, partition)), nil
}

// pad is used for one sum only: that of a partition in a file.
func (c *Codec) pad(file FileID, partition int) (s Sum) {
	kindPart, storePart, partitionPart := c.scope(kindFileSum, partition)
	_, mac := c.ring.Sign(kindPart, storePart, partitionPart, file[:])
	for i := range s {
		s[i] = binary.BigEndian.Uint64(mac[8*i:])
	}
	return s
}
