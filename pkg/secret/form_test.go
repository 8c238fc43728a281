package secret

import (
	"bytes"
	"math/big"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

// TestB03_KnownSecrets pins the form with texts that were computed outside of Go. Every secret in the field
// depends on the form, so changing the code and the reference together must not pass.
func TestB03_KnownSecrets(t *testing.T) {
	counting := make([]byte, 32)
	for i := range counting {
		counting[i] = byte(i)
	}
	tests := []struct {
		name, prefix string
		raw          []byte
		want         string
	}{
		{"zero", "cs_", number(0), "cs_" + zeros(43) + "1dKLTj"},
		{"one", "cs_", number(1), "cs_" + zeros(42) + "10qTyxF"},
		{"last digit", "cs_", number(61), "cs_" + zeros(42) + "z3nHFgf"},
		{"first carry", "cs_", number(62), "cs_" + zeros(41) + "101ApbOg"},
		{"leading zero bytes", "cs_", counting, "cs_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf27wFTL"},
		{"largest", "cs_", ones(), "cs_yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp14RYTDD"},
		{"admin key zero", "csadm_", number(0), "csadm_" + zeros(43) + "1wqcag"},
		{"admin key largest", "csadm_", ones(), "csadm_yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp13Y86w6"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := mint(tt.prefix, bytes.NewReader(tt.raw)).Reveal(); got != tt.want {
				t.Errorf("mint = %q, want %q", got, tt.want)
			}
			if !wellFormed(tt.prefix, tt.want) {
				t.Errorf("%q is not well-formed", tt.want)
			}
		})
	}
}

func TestB03_MintEncodesAllBits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// Leading zeros, so that every width of padding is tried.
		raw := make([]byte, 32)
		tail := rapid.SliceOfN(rapid.Byte(), 0, 32).Draw(t, "tail")
		copy(raw[32-len(tail):], tail)
		for prefix := range referenceForm {
			source := bytes.NewReader(append(bytes.Clone(raw), 0xaa))
			got := mint(prefix, source).Reveal()
			if want := referenceText(prefix, new(big.Int).SetBytes(raw)); got != want {
				t.Fatalf("mint of %x = %q, want %q", raw, got, want)
			}
			if source.Len() != 1 {
				t.Fatalf("mint left %d bytes of 33, want 1: it takes exactly 256 bits", source.Len())
			}
		}
	})
}

// TestB03_NoSecretFromAFailingGenerator: with fewer than 256 random bits there must be no secret at all.
func TestB03_NoSecretFromAFailingGenerator(t *testing.T) {
	for name, source := range map[string]*bytes.Reader{
		"nothing":       bytes.NewReader(nil),
		"one byte less": bytes.NewReader(make([]byte, 31)),
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("mint returned")
				}
			}()
			mint(Prefix, iotest.OneByteReader(source))
		})
	}
}

func TestB03_MintedSecretsAreUniqueAndMatchTheScannerPattern(t *testing.T) {
	pattern := regexp.MustCompile(`\A` + scannerPattern + `\z`)
	seen := make(map[string]bool)
	var varies [52]map[byte]bool
	for i := range varies {
		varies[i] = make(map[byte]bool)
	}
	for range 5000 {
		text := Mint().Reveal()
		if seen[text] {
			t.Fatal("one secret was minted twice")
		}
		seen[text] = true
		if !pattern.MatchString(text) || !WellFormed(text) || !referenceAccepts("cs_", text) {
			t.Fatal("a minted secret does not have the form")
		}
		for i := range varies {
			varies[i][text[i]] = true
		}
	}
	// The first digit of 256 bits is at most y, and the checksum's is at most 4. All others take every value.
	for i := len(Prefix); i < len(varies); i++ {
		want := 62
		switch i {
		case 3:
			want = 61
		case 46:
			want = 5
		}
		if len(varies[i]) != want {
			t.Errorf("character %d took %d values in 5000 secrets, want %d", i, len(varies[i]), want)
		}
	}
}

func TestB03_AdminKeysAndSecretsAreNotConfused(t *testing.T) {
	pattern := regexp.MustCompile(scannerPattern)
	for range 200 {
		secret, key := Mint().Reveal(), MintAdminKey().Reveal()
		if !WellFormedAdminKey(key) || !referenceAccepts("csadm_", key) || len(key) != len("csadm_")+49 {
			t.Fatal("a minted admin key does not have the form")
		}
		if WellFormed(key) || WellFormedAdminKey(secret) {
			t.Fatal("one kind passes for the other")
		}
		if pattern.MatchString(key) {
			t.Fatal("the scanner pattern of secrets finds an admin key")
		}
		// The checksum covers the prefix, so changing the prefix alone does not make a secret of an admin
		// key.
		if WellFormed("cs_"+key[len("csadm_"):]) || WellFormedAdminKey("csadm_"+secret[len("cs_"):]) {
			t.Fatal("a changed prefix went unnoticed")
		}
	}
}

func number(n int64) []byte { return new(big.Int).SetInt64(n).FillBytes(make([]byte, 32)) }

func ones() []byte { return bytes.Repeat([]byte{0xff}, 32) }

func zeros(n int) string { return strings.Repeat("0", n) }
