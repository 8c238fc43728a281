package secret

const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// largest256 is 2^256 - 1 in base62, the largest value of a secret's 43 digits.
var largest256 = func() string {
	var ones [randomBytes]byte
	for i := range ones {
		ones[i] = 0xff
	}
	var digits [randomLength]byte
	putBase62(digits[:], ones[:])
	return string(digits[:])
}()

// putBase62 writes the big-endian number in raw to all of dst, padded with zeros on the left. The number
// must fit.
func putBase62(dst, raw []byte) {
	var number [randomBytes]byte
	rest := number[:copy(number[:], raw)]
	for i := len(dst) - 1; i >= 0; i-- {
		remainder := 0
		for j, b := range rest {
			value := remainder<<8 | int(b)
			rest[j], remainder = byte(value/62), value%62
		}
		dst[i] = alphabet[remainder]
	}
}

// notBase62 stands in valueOf for a character that is not a digit. No digit's value has this bit.
const notBase62 = 1 << 7

// valueOf is the value of each character as a digit. It is a table because it is read for every character of
// every token.
var valueOf = func() (values [256]byte) {
	for i := range values {
		values[i] = notBase62
	}
	for i := range len(alphabet) {
		values[alphabet[i]] = byte(i)
	}
	return values
}()

// numberOf returns the value of at most ten base62 digits.
func numberOf(digits string) (n uint64) {
	for i := range len(digits) {
		n = 62*n + uint64(valueOf[digits[i]])
	}
	return n
}

// putNumber writes a number to all of dst, padded with zeros on the left. The number must fit.
func putNumber(dst []byte, n uint32) {
	for i := len(dst) - 1; i >= 0; i-- {
		dst[i] = alphabet[n%62]
		n /= 62
	}
}

// fits256Bits reports whether 43 base62 digits are at most 2^256 - 1. The alphabet is in ASCII order, so
// digits compare as text.
func fits256Bits(digits string) bool { return digits <= largest256 }
