package secret

import (
	"errors"
	"fmt"
	"math"
	"strings"
)

// MinImportBits is the least entropy of an imported secret: 112 bits, the bound for look-up secrets that may
// be stored with a fast hash (NIST SP 800-63B).
const MinImportBits = 112

// alphabets are ordered by size. A secret counts as drawn from the first one that has all its characters.
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

// CheckImport returns why an external secret cannot be imported (B11): it is empty, too long, not printable
// ASCII, or too weak by its length and alphabet. It returns nil for a usable secret. The error never holds
// the secret.
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

// few is the number of different characters below which they themselves count as the alphabet. A random text
// of just sufficient length has so few with a probability below one in a million, for any alphabet.
const few = 6

// Bits returns the most entropy that a text can have by its length and alphabet: the smallest usual alphabet
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
