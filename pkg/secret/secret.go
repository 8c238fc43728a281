// Package secret mints, checks and digests the secrets that tokens are made of (rule B03).
//
// It knows the form of a secret and nothing else: no storage, no network, no other package of this module.
// A secret is held in the type Secret, which prints as a placeholder wherever it is formatted, logged or
// marshalled, so that the only way to its text is the method Reveal.
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
	// AdminPrefix starts every admin key, so that secret scanners tell the two apart.
	AdminPrefix = "csadm_"
	// MaxLength is the most bytes a secret may have, foreign ones included. Longer input is rejected unread.
	MaxLength = 4096
	// HintLength is how many characters of a secret are kept for people to recognise it by.
	HintLength = 6

	randomBytes    = 32
	randomLength   = 43 // ceil(256 / log2(62))
	checksumLength = 6  // ceil(32 / log2(62))
)

// Digest is the SHA-256 of a secret: all that is stored of it. A secret has 256 random bits, so no slow
// hash is needed (NIST SP 800-63B, look-up secrets).
type Digest [sha256.Size]byte

// DigestOf returns the digest of a secret's text, whatever its form. It does not allocate.
func DigestOf(text string) Digest {
	// A conversion would copy the text, and the hash does not write to what it reads.
	return sha256.Sum256(unsafe.Slice(unsafe.StringData(text), len(text)))
}

// Secret is the text of a secret. The zero value is no secret. It is safe for concurrent use.
//
// The text is behind a pointer because fmt does not call the methods of an unexported field: it would print
// a text that stood here, and prints an address instead.
type Secret struct{ text *string }

// New wraps a text that came from outside, unchecked.
func New(text string) Secret { return Secret{text: &text} }

// Of wraps a text that came from outside and stays where it is, unchecked. It is New without an allocation:
// the secret is what the text is, and must not be used when that changes.
func Of(text *string) Secret { return Secret{text: text} }

// Mint returns a new secret with 256 bits from the system's generator.
func Mint() Secret { return mint(Prefix, rand.Reader) }

// MintAdminKey returns a new admin key: the same form behind AdminPrefix.
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

// Reveal returns the text. Call it only where the secret leaves to its owner.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// Digest returns what is stored of the secret.
func (s Secret) Digest() Digest { return DigestOf(s.Reveal()) }

// Hint returns the first HintLength characters after the prefix, by which people recognise a secret. A
// foreign secret has no prefix. It has no hint when what the hint leaves unknown has fewer than
// MinImportBits, by the length and the alphabet of the whole (B11).
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

// WellFormed tells whether a text has the form of a secret: prefix, length, alphabet and checksum. It does
// not allocate.
func WellFormed(text string) bool { return wellFormed(Prefix, text) }

// WellFormedAdminKey tells the same of an admin key.
func WellFormedAdminKey(text string) bool { return wellFormed(AdminPrefix, text) }

// Within tells whether a secret or an admin key stands anywhere in a text.
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

// slices are the tables by which 8 bytes of a CRC-32 are taken at once (Kounavis and Berry, Novel Table
// Lookup-Based Algorithms for High-Performance CRC Generation, 2008): the n-th is for a byte that n more
// follow.
var slices = func() (tables [8][256]uint32) {
	tables[0] = *crc32.IEEETable
	for n := 1; n < len(tables); n++ {
		for i, before := range tables[n-1] {
			tables[n][i] = tables[0][byte(before)] ^ before>>8
		}
	}
	return tables
}()

// checksum returns what crc32.ChecksumIEEE returns, which would make every caller allocate: its argument
// escapes.
func checksum(body string) uint32 {
	crc := ^uint32(0)
	for ; len(body) >= 8; body = body[8:] {
		crc ^= uint32(body[0]) | uint32(body[1])<<8 | uint32(body[2])<<16 | uint32(body[3])<<24
		crc = slices[0][body[7]] ^ slices[1][body[6]] ^ slices[2][body[5]] ^ slices[3][body[4]] ^
			slices[4][crc>>24] ^ slices[5][crc>>16&0xff] ^ slices[6][crc>>8&0xff] ^ slices[7][crc&0xff]
	}
	// What is left is taken at once as well. A shift by more bits than there are leaves nothing.
	rest := crc >> (8 * len(body))
	for i := range len(body) {
		rest ^= slices[len(body)-1-i][body[i]^byte(crc>>(8*i))]
	}
	return ^rest
}
