package secret_test

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/countersign/countersign/pkg/secret"
)

func TestB02_DigestIsSHA256(t *testing.T) {
	// FIPS 180-4's example, and the minted secret of the bytes 00 01 02 ... 1f.
	minted := "cs_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf27wFTL"
	for text, want := range map[string]string{
		"abc":  "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
		minted: "1440822973f695954e4d7ed5165d3afcfe2afd8c8a2bc3b833ea1bd3da7d5efd",
	} {
		digest := secret.DigestOf(text)
		if got := hex.EncodeToString(digest[:]); got != want {
			t.Errorf("DigestOf(%q) = %s, want %s", text, got, want)
		}
	}
	// Every length around the ones at which the implementation may change.
	for n := range 300 {
		checkDigest(t, strings.Repeat("x", n))
	}
	for _, n := range []int{4095, 4096, 4097, 10000} {
		checkDigest(t, strings.Repeat("x", n))
	}
	rapid.Check(t, func(t *rapid.T) { checkDigest(t, rapid.String().Draw(t, "text")) })
}

func checkDigest(t rapid.TB, text string) {
	t.Helper()
	want := secret.Digest(sha256.Sum256([]byte(text)))
	if secret.DigestOf(text) != want || secret.New(text).Digest() != want {
		t.Fatalf("the digest of %d bytes is not their SHA-256", len(text))
	}
}

func TestB06_HintIsSixCharactersAfterThePrefix(t *testing.T) {
	minted := secret.Mint()
	tests := []struct{ name, text, want string }{
		{"minted", minted.Reveal(), minted.Reveal()[3:9]},
		// B11: the characters that the hint hides have at least MinImportBits, 4 bits for each hexadecimal
		// digit.
		{"foreign", "sk-live-0123456789abcdefghij", "sk-liv"},
		{"hexadecimal, 112 bits", "0123456789abcdef0123456789ab", ""},
		{"hexadecimal, 132 bits", "0123456789abcdef0123456789abcdef0", ""},
		{"hexadecimal, 136 bits", "0123456789abcdef0123456789abcdef01", "012345"},
		{"foreign with our prefix", "cs_0123456789abcdefghijklm", "cs_012"},
		{"weak", "0123456789ab", ""},
		{"empty", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := secret.New(tt.text).Hint(); got != tt.want {
				t.Errorf("Hint = %q, want %q", got, tt.want)
			}
		})
	}
}

// TestHotPathDoesNotAllocate covers the functions that run for each request.
func TestHotPathDoesNotAllocate(t *testing.T) {
	minted := secret.Mint().Reveal()
	for name, text := range map[string]string{
		"minted": minted, "empty": "", "mistyped": minted[:51] + "!", "truncated": minted[:50],
		"imported": strings.Repeat("k", 128),
	} {
		if n := testing.AllocsPerRun(100, func() { secret.WellFormed(text) }); n != 0 {
			t.Errorf("WellFormed of a text that is %s allocates %v times", name, n)
		}
		if n := testing.AllocsPerRun(100, func() { secret.DigestOf(text) }); n != 0 {
			t.Errorf("DigestOf a text that is %s allocates %v times", name, n)
		}
	}
}
