package secret

import (
	"math/big"
	"strings"
	"testing"
)

func FuzzWellFormed(f *testing.F) {
	minted := Mint().Reveal()
	for _, seed := range []string{
		"", "cs_", "csadm_", minted, MintAdminKey().Reveal(), minted[:51], minted + "0", strings.ToLower(minted),
		referenceText("cs_", new(big.Int)), referenceText("cs_", twoTo256), "cs_" + strings.Repeat("z", 49),
		strings.Repeat("\u00e9", 26), "cs_\xff\x00",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		// Candidates with a right checksum too, since a fuzzer does not find one by itself.
		for _, candidate := range []string{
			text, referenceSeal(text), referenceSeal("cs_" + text), referenceSeal("csadm_" + text),
		} {
			if got, want := WellFormed(candidate), referenceAccepts("cs_", candidate); got != want {
				t.Errorf("WellFormed(%q) = %v, the reference says %v", candidate, got, want)
			}
			if got, want := WellFormedAdminKey(candidate), referenceAccepts("csadm_", candidate); got != want {
				t.Errorf("WellFormedAdminKey(%q) = %v, the reference says %v", candidate, got, want)
			}
		}
		if !WellFormed(Mint().Reveal()) {
			t.Error("a minted secret is not well-formed")
		}
		if hint := New(text).Hint(); hint != "" && (len(hint) != HintLength || !strings.Contains(text, hint)) {
			t.Errorf("Hint of %q = %q", text, hint)
		}
	})
}
