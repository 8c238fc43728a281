package secret

import (
	"errors"
	"fmt"
	"math"
	"strings"
)

// MinImportBits is the least strength of an imported secret: that of a look-up secret whose digest may be
// stored with a fast hash (NIST SP 800-63B, 112 bits).
const MinImportBits = 112

// alphabets are tried from the smallest: a secret counts as drawn from the first that has all its characters.
var alphabets = []string{
	"0123456789",
	"0123456789abcdef",
	"0123456789ABCDEF",
	"abcdefghijklmnopqrstuvwxyz",
	"ABCDEFGHIJKLMNOPQRSTUVWXYZ",
	"0123456789abcdefghijklmnopqrstuvwxyz",
	"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
	alphabet,
	alphabet + "-_",
	alphabet + "+/=",
}

// printable is the number of printable ASCII characters without the space.
const printable = 94

// CheckImport tells why a foreign secret cannot be imported (B11): empty, too long, not printable ASCII, or
// too weak by its length and alphabet. It returns nil when it can. The error never holds the secret.
func CheckImport(text string) error {
	if text == "" {
		return errors.New("must not be empty")
	}
	if len(text) > MaxLength {
		return fmt.Errorf("must have at most %d bytes", MaxLength)
	}
	for i := range len(text) {
		if text[i] <= ' ' || text[i] > '~' {
			return errors.New("must be printable ASCII without spaces")
		}
	}
	if bits := Bits(text); bits < MinImportBits {
		return fmt.Errorf("must have at least %d bits by its length and alphabet, has %d", MinImportBits, int(bits))
	}
	return nil
}

// few is the number of different characters below which they themselves count as the alphabet. Of the
// random texts that are just long enough, fewer than one in a million has so few, whatever it was drawn
// from.
const few = 6

// Bits returns the most entropy that a text can have by its length and alphabet: the smallest usual one
// that holds it, or its own characters when they are few.
func Bits(text string) float64 {
	size := printable
	for _, a := range alphabets {
		if strings.Trim(text, a) == "" {
			size = len(a)
			break
		}
	}
	var seen [256]bool
	different := 0
	for i := range len(text) {
		if !seen[text[i]] {
			seen[text[i]] = true
			different++
		}
	}
	if different < few {
		size = different
	}
	return float64(len(text)) * math.Log2(float64(max(size, 1)))
}
