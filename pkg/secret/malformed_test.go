package secret

import (
	"math/big"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestB03_EverySlipIsMalformed(t *testing.T) {
	largest := new(big.Int).Sub(twoTo256, big.NewInt(1))
	texts := []string{referenceText("cs_", new(big.Int)), referenceText("cs_", largest)}
	for range 5 {
		texts = append(texts, Mint().Reveal())
	}
	for _, text := range texts {
		if !WellFormed(text) {
			t.Fatalf("%q is not well-formed", text)
		}
		rejected := func(slip, wrong string) {
			t.Helper()
			if wrong != text && WellFormed(wrong) {
				t.Errorf("%s of %q is accepted: %q", slip, text, wrong)
			}
		}
		for i := range len(text) {
			rejected("a head", text[:i])
			rejected("a tail", text[i+1:])
			rejected("a loss", text[:i]+text[i+1:])
			rejected("a doubled character", text[:i+1]+text[i:])
			for c := range 256 {
				rejected("a changed character", text[:i]+string([]byte{byte(c)})+text[i+1:])
			}
			if i > 0 {
				rejected("a transposition", text[:i-1]+text[i:i+1]+text[i-1:i]+text[i+1:])
			}
		}
		for i := range len(text) + 1 {
			for c := range 256 {
				rejected("an insertion", text[:i]+string([]byte{byte(c)})+text[i:])
			}
		}
	}
}

func TestB03_ForeignTextsAreMalformed(t *testing.T) {
	valid := Mint().Reveal()
	beyond := func(offset *big.Int) string { return referenceText("cs_", new(big.Int).Add(twoTo256, offset)) }
	largest43 := new(big.Int).Sub(new(big.Int).Exp(big.NewInt(62), big.NewInt(43), nil), big.NewInt(1))
	// The checksum plus 2^32 has six digits too, but is not how it is written.
	body := valid[:46]
	sum, _ := new(big.Int).SetString(swapCase(valid[46:]), 62)
	otherSum := referenceDigits(sum.Add(sum, big.NewInt(1<<32)), 6)

	tests := []struct{ name, text string }{
		{"empty", ""},
		{"prefix alone", "cs_"},
		{"without prefix", valid[3:]},
		{"upper-case prefix", "CS_" + valid[3:]},
		{"prefix with a dash", "cs-" + valid[3:]},
		{"sealed under another prefix", referenceSeal("CS_" + valid[3:46])},
		{"twice the prefix", "cs_" + valid},
		{"twice", valid + valid},
		{"leading space", " " + valid},
		{"trailing newline", valid + "\n"},
		{"trailing NUL", valid + "\x00"},
		{"scheme in front", "Bearer " + valid},
		{"quoted", `"` + valid + `"`},
		{"byte order mark", "\ufeff" + valid},
		{"2^256", beyond(big.NewInt(0))},
		{"2^256 + 1", beyond(big.NewInt(1))},
		{"2^256 + 62", beyond(big.NewInt(62))},
		{"largest of 43 digits", referenceText("cs_", largest43)},
		{"44 digits", referenceSeal("cs_0" + valid[3:46])},
		{"42 digits", referenceSeal("cs_" + strings.Repeat("1", 42))},
		{"checksum with another value of the same remainder", body + otherSum},
		{"checksum of the body without prefix", body + referenceSeal(valid[3:46])[43:]},
		{"not padded", referenceSeal("cs_1")},
		{"padded on the right", referenceSeal("cs_1" + strings.Repeat(" ", 42))},
		{"digit outside of the alphabet, sealed", referenceSeal("cs_-" + valid[4:46])},
		{"underscore for a digit, sealed", referenceSeal("cs__" + valid[4:46])},
		{"NUL for a digit, sealed", referenceSeal("cs_\x00" + valid[4:46])},
		{"invalid UTF-8, sealed", referenceSeal("cs_\xff" + valid[4:46])},
		{"full-width digits, 43 bytes of them", referenceSeal("cs_" + strings.Repeat("\uff10", 14) + "1")},
		{"full-width underscore", "cs\uff3f" + valid[3:]},
		{"accents", "cs_" + strings.Repeat("\u00e9", 24) + "1"},
		{"GitHub's form", "ghp_" + strings.Repeat("a", 36)},
		{"UUID", "123e4567-e89b-12d3-a456-426614174000"},
		{"at the limit", valid + strings.Repeat("0", 4096-len(valid))},
		{"past 4 KiB", valid + strings.Repeat("0", 4097-len(valid))},
		{"a megabyte", strings.Repeat(valid, 1<<20/len(valid))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if WellFormed(tt.text) {
				t.Errorf("%.80q is accepted", tt.text)
			}
			if referenceAccepts("cs_", tt.text) {
				t.Errorf("the reference accepts %.80q", tt.text)
			}
		})
	}
}

// TestB03_EveryCharacterIsOneOfItsPlace: a right checksum does not excuse a wrong prefix or a wrong digit.
func TestB03_EveryCharacterIsOneOfItsPlace(t *testing.T) {
	for prefix, wellFormed := range map[string]func(string) bool{"cs_": WellFormed, "csadm_": WellFormedAdminKey} {
		body := prefix + referenceDigits(new(big.Int), 43)
		for i := range len(body) {
			for c := range 256 {
				changed := []byte(body)
				changed[i] = byte(c)
				text := referenceSeal(string(changed))
				if got, want := wellFormed(text), referenceAccepts(prefix, text); got != want {
					t.Errorf("%q, with its checksum, is well-formed: %v, want %v", text, got, want)
				}
			}
		}
	}
}

// TestB03_AgreesWithTheReference tries numbers around the limit of 256 bits, and texts with mistakes.
func TestB03_AgreesWithTheReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		number := new(big.Int).SetBytes(rapid.SliceOfN(rapid.Byte(), 0, 32).Draw(t, "number"))
		if rapid.Bool().Draw(t, "near the limit") {
			number.Add(twoTo256, big.NewInt(rapid.Int64Range(-5000, 5000).Draw(t, "offset")))
		}
		text := []byte(referenceText("cs_", number))
		if want := number.Cmp(twoTo256) < 0; WellFormed(string(text)) != want {
			t.Fatalf("WellFormed(%q) = %v, want %v", text, !want, want)
		}
		for range rapid.IntRange(0, 3).Draw(t, "slips") {
			position := rapid.IntRange(0, len(text)-1).Draw(t, "position")
			text[position] = rapid.SampledFrom([]byte("019AZaz_- \x00\xff")).Draw(t, "character")
		}
		if got, want := WellFormed(string(text)), referenceAccepts("cs_", string(text)); got != want {
			t.Fatalf("WellFormed(%q) = %v, the reference says %v", text, got, want)
		}
	})
}
