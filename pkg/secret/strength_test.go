package secret_test

import (
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/countersign/countersign/pkg/secret"
)

const (
	digits = "0123456789"
	lower  = "abcdefghijklmnopqrstuvwxyz"
	upper  = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

// cycle returns n characters by repeating an alphabet.
func cycle(alphabet string, n int) string {
	return strings.Repeat(alphabet, n/len(alphabet)+1)[:n]
}

// TestB11_StrengthByLengthAndAlphabet has, for each alphabet, the shortest text with 112 bits and a text that
// is one character shorter: ceil(112 / log2(size)), calculated by hand. The first characters of an alphabet
// are of every kind in it, so that few of them identify it.
func TestB11_StrengthByLengthAndAlphabet(t *testing.T) {
	tests := []struct {
		name     string
		alphabet string
		shortest int
	}{
		{"digits", digits, 34},
		{"hex", digits + "abcdef", 28},
		{"upper-case hex", digits + "ABCDEF", 28},
		{"lower case", lower, 24},
		{"upper case", upper, 24},
		{"lower case and digits", "1z" + lower + digits, 22},
		{"upper case and digits", "1Z" + upper + digits, 22},
		{"letters", "zZ" + lower + upper, 19},
		{"alphanumeric", "1zZ" + lower + upper + digits, 19},
		{"printable", "!#$%&()*+,-./:;<=>?@[]^_{|}~", 18},
		{"one character of many", "0123456789!", 18},
		{"one different character", "7", math.MaxInt},
		{"two different characters", "01", 112},
		{"three different characters", "abc", 71},
		{"four different characters", "acgt", 56},
		{"five different characters", "01234", 49},
		{"five different, two alphabets", "aA0b!", 49},
		{"six different characters of digits", "012345", 34},
		{"six different characters of alphanumerics", "aAbB12", 19},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.shortest == math.MaxInt {
				if err := secret.CheckImport(cycle(tt.alphabet, secret.MaxLength)); err == nil {
					t.Error("the longest text is accepted, want every one refused")
				}
				return
			}
			if err := secret.CheckImport(cycle(tt.alphabet, tt.shortest)); err != nil {
				t.Errorf("%d characters are refused: %v", tt.shortest, err)
			}
			if err := secret.CheckImport(cycle(tt.alphabet, tt.shortest-1)); err == nil {
				t.Errorf("%d characters are accepted, %d are needed", tt.shortest-1, tt.shortest)
			}
		})
	}
}

func TestB11_WhatCanBeImported(t *testing.T) {
	strong := cycle(lower+digits, 40)
	tests := []struct {
		name, text string
		ok         bool
	}{
		{"a minted secret", secret.Mint().Reveal(), true},
		{"a UUID", "9b2f6c1e-4d07-4a53-8f6e-1c0d9a7b3e52", true},
		{"128 bits in hex", "d41d8cd98f00b204e9800998ecf8427e", true},
		{"all printable characters", cycle("!\"#$%&'()*+,-./0189:;<=>?@AZ[\\]^_`az{|}~", 60), true},
		{"the longest", cycle(lower, 4096), true},
		{"one longer", cycle(lower, 4097), false},
		{"empty", "", false},
		{"a password", "correcthorse", false},
		{"space inside", strong + " " + strong, false},
		{"space in front", " " + strong, false},
		{"newline behind", strong + "\n", false},
		{"tab", strong + "\t", false},
		{"NUL", strong + "\x00", false},
		{"delete", strong + "\x7f", false},
		{"not ASCII", strong + "\u00e9", false},
		{"invalid UTF-8", strong + "\xff", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := secret.CheckImport(tt.text); (err == nil) != tt.ok {
				t.Errorf("CheckImport = %v, want ok %v", err, tt.ok)
			}
		})
	}
}

// TestB11_ErrorsDoNotHoldTheSecret, nor any part of it: the words for one text are those for another of the
// same length and alphabet.
func TestB11_ErrorsDoNotHoldTheSecret(t *testing.T) {
	pairs := map[string][2]string{
		"weak":          {"hunter2hunter2hunt", "passw9rdpassw9rdpa"},
		"weak and even": {strings.Repeat("q", 40), strings.Repeat("k", 40)},
		"too long":      {cycle(lower, 5000), cycle("zyxwvutsrqponmlkjihgfedcba", 5000)},
		"not printable": {cycle(lower, 40) + " ", cycle("nopqrstuvw", 40) + "\u00e9"},
	}
	for name, pair := range pairs {
		t.Run(name, func(t *testing.T) {
			one, other := secret.CheckImport(pair[0]), secret.CheckImport(pair[1])
			if one == nil || other == nil {
				t.Fatalf("CheckImport = %v and %v, want two errors", one, other)
			}
			if one.Error() != other.Error() {
				t.Errorf("the error depends on the secret: %q and %q", one, other)
			}
		})
	}
}

// TestB11_MoreCharactersAreNeverWeaker, also where a further character belongs to a larger alphabet.
func TestB11_MoreCharactersAreNeverWeaker(t *testing.T) {
	printable := rapid.StringOfN(rapid.RuneFrom([]rune(digits+lower+upper+"-_+/=!~")), 0, 60, -1)
	rapid.Check(t, func(t *rapid.T) {
		text := printable.Draw(t, "text")
		more := text + printable.Draw(t, "more")
		bits := secret.Bits(text)
		if bits > secret.Bits(more) {
			t.Fatalf("%q has %.1f bits, the longer %q only %.1f", text, bits, more, secret.Bits(more))
		}
		if limit := float64(len(text)) * math.Log2(94); bits < 0 || bits > limit {
			t.Fatalf("%q has %.1f bits, want 0 to %.1f", text, bits, limit)
		}
		if ok := secret.CheckImport(text) == nil; ok != (bits >= 112) {
			t.Fatalf("CheckImport(%q) is nil: %v, with %.1f bits", text, ok, bits)
		}
	})
}
