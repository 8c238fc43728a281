package secret

import (
	"hash/crc32"
	"math/big"
	"regexp"
	"strings"
)

// The reference below reads and writes the form of B03 by other means than the package: math/big for base62,
// hash/crc32 for the checksum, regexp for the form. It shares no constant with the package.

// scannerPattern is the pattern for secret scanners in the README.
const scannerPattern = `cs_[0-9A-Za-z]{49}`

// twoTo256 is the first number that does not fit.
var twoTo256 = new(big.Int).Lsh(big.NewInt(1), 256)

// swapCase converts the digits of math/big, where lower case comes first, to the digits of B03, and back.
func swapCase(digits string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z':
			return r - 'a' + 'A'
		case 'A' <= r && r <= 'Z':
			return r - 'A' + 'a'
		}
		return r
	}, digits)
}

// referenceDigits writes a number in base62, padded with zeros on the left.
func referenceDigits(number *big.Int, width int) string {
	digits := swapCase(number.Text(62))
	return strings.Repeat("0", max(width-len(digits), 0)) + digits
}

// referenceSeal appends the checksum of everything before it.
func referenceSeal(body string) string {
	sum := new(big.Int).SetUint64(uint64(crc32.ChecksumIEEE([]byte(body))))
	return body + referenceDigits(sum, 6)
}

// referenceText writes the secret that encodes a number.
func referenceText(prefix string, number *big.Int) string {
	return referenceSeal(prefix + referenceDigits(number, 43))
}

// referenceForm is the form that the reference accepts, by prefix.
var referenceForm = map[string]*regexp.Regexp{
	"cs_":    regexp.MustCompile(`\Acs_([0-9A-Za-z]{43})([0-9A-Za-z]{6})\z`),
	"csadm_": regexp.MustCompile(`\Acsadm_([0-9A-Za-z]{43})([0-9A-Za-z]{6})\z`),
}

// referenceAccepts answers WellFormed and WellFormedAdminKey independently.
func referenceAccepts(prefix, text string) bool {
	parts := referenceForm[prefix].FindStringSubmatch(text)
	if parts == nil {
		return false
	}
	number, ok := new(big.Int).SetString(swapCase(parts[1]), 62)
	if !ok || number.Cmp(twoTo256) >= 0 {
		return false
	}
	sum, ok := new(big.Int).SetString(swapCase(parts[2]), 62)
	want := crc32.ChecksumIEEE([]byte(prefix + parts[1]))
	return ok && sum.IsUint64() && sum.Uint64() == uint64(want)
}
