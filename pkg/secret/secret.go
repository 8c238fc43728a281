// Package secret mints, checks and digests the secrets of tokens (rule B03).
//
// It knows the form of a secret and nothing else: no storage, no network, no other package of this module.
// The type Secret prints as a placeholder wherever it is formatted, logged or marshalled. Only the method
// Reveal returns its text.
//
// The names that signatures of pkg/client and pkg/validator show are part of the public API. Others may
// change in any release.
package secret

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"hash/crc32"
	"io"
	"unsafe"
)

const (
	// Prefix starts every secret that a customer's backend sends.
	Prefix = "cs_"
	// AdminPrefix starts every admin key, so that secret scanners can distinguish the two.
	AdminPrefix = "csadm_"
	// MaxLength is the most bytes of a secret, imported ones included. Longer input is rejected unread.
	MaxLength = 4096
	// HintLength is how many characters of a secret are kept so that people can recognise it.
	HintLength = 6

	randomBytes    = 32
	randomLength   = 43 // ceil(256 / log2(62))
	checksumLength = 6  // ceil(32 / log2(62))
)

// Digest is the SHA-256 of a secret, and all that is stored of it. A secret has 256 random bits, so no slow
// hash is needed (NIST SP 800-63B, look-up secrets).
type Digest [sha256.Size]byte

// DigestOf returns the digest of a text in any form. It does not allocate.
func DigestOf(text string) Digest {
	// A conversion would copy the text. The hash does not change its input.
	return sha256.Sum256(unsafe.Slice(unsafe.StringData(text), len(text)))
}

// Secret is the text of a secret. The zero value is no secret. It is safe for concurrent use.
//
// The text is behind a pointer, because fmt does not call the methods of an unexported field. It would print
// a text here, and prints an address instead.
type Secret struct{ text *string }

// New wraps a text from outside without a check.
func New(text string) Secret { return Secret{text: &text} }

// Of wraps a text from outside without a check and without an allocation. The secret must not be used after
// the text changes.
func Of(text *string) Secret { return Secret{text: text} }

// Mint returns a new secret with 256 bits from the system's random generator.
func Mint() Secret { return mint(Prefix, rand.Reader) }

// MintAdminKey returns a new admin key, which has the same form after AdminPrefix.
func MintAdminKey() Secret { return mint(AdminPrefix, rand.Reader) }

// mint never fails: crypto/rand.Reader does not return errors since Go 1.24.
func mint(prefix string, random io.Reader) Secret {
	var raw [randomBytes]byte
	if _, err := io.ReadFull(random, raw[:]); err != nil {
		panic(fmt.Sprintf("secret: system generator: %v", err))
	}
	text := make([]byte, len(prefix)+randomLength+checksumLength)
	body := text[:copy(text, prefix)+randomLength]
	putBase62(body[len(prefix):], raw[:])
	putNumber(text[len(body):], checksum(string(body)))
	return New(string(text))
}

// Reveal returns the text. Call it only where the secret goes to its owner.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// Digest returns the digest of the secret's text.
func (s Secret) Digest() Digest { return DigestOf(s.Reveal()) }

// Hint returns the first HintLength characters after the prefix, so that people can recognise a secret. An
// imported secret has no prefix. It has no hint when the characters that the hint hides have fewer than
// MinImportBits, by the secret's length and alphabet (B11).
func (s Secret) Hint() string {
	text := s.Reveal()
	if WellFormed(text) {
		return text[len(Prefix):][:HintLength]
	}
	if len(text) <= HintLength || Bits(text)*float64(len(text)-HintLength)/float64(len(text)) < MinImportBits {
		return ""
	}
	return text[:HintLength]
}

// WellFormed reports whether a text has the form of a secret: prefix, length, alphabet and checksum. It does
// not allocate.
func WellFormed(text string) bool { return wellFormed(Prefix, text) }

// WellFormedAdminKey reports whether a text has the form of an admin key.
func WellFormedAdminKey(text string) bool { return wellFormed(AdminPrefix, text) }

// Within reports whether a text contains a secret or an admin key.
func Within(text string) bool {
	for _, prefix := range []string{Prefix, AdminPrefix} {
		length := len(prefix) + randomLength + checksumLength
		for i := 0; i+length <= len(text); i++ {
			if wellFormed(prefix, text[i:i+length]) {
				return true
			}
		}
	}
	return false
}

func wellFormed(prefix, text string) bool {
	if len(text) != len(prefix)+randomLength+checksumLength || text[:len(prefix)] != prefix {
		return false
	}
	body := text[:len(text)-checksumLength]
	digits := text[len(prefix):]
	foreign := byte(0)
	for i := range len(digits) {
		foreign |= valueOf[digits[i]]
	}
	return foreign&notBase62 == 0 && fits256Bits(body[len(prefix):]) && numberOf(text[len(body):]) == uint64(checksum(body))
}

// slices are tables for 8 bytes of a CRC-32 at once (Kounavis and Berry, Novel Table Lookup-Based Algorithms
// for High-Performance CRC Generation, 2008). Table n is for a byte that n more bytes follow.
var slices = func() (tables [8][256]uint32) {
	tables[0] = *crc32.IEEETable
	for n := 1; n < len(tables); n++ {
		for i, before := range tables[n-1] {
			tables[n][i] = tables[0][byte(before)] ^ before>>8
		}
	}
	return tables
}()

// checksum returns the same as crc32.ChecksumIEEE, whose argument escapes and would make every caller
// allocate.
func checksum(body string) uint32 {
	crc := ^uint32(0)
	for ; len(body) >= 8; body = body[8:] {
		crc ^= uint32(body[0]) | uint32(body[1])<<8 | uint32(body[2])<<16 | uint32(body[3])<<24
		crc = slices[0][body[7]] ^ slices[1][body[6]] ^ slices[2][body[5]] ^ slices[3][body[4]] ^
			slices[4][crc>>24] ^ slices[5][crc>>16&0xff] ^ slices[6][crc>>8&0xff] ^ slices[7][crc&0xff]
	}
	// The remaining bytes are also taken at once. A shift by more bits than the number has gives 0.
	rest := crc >> (8 * len(body))
	for i := range len(body) {
		rest ^= slices[len(body)-1-i][body[i]^byte(crc>>(8*i))]
	}
	return ^rest
}
