package secret_test

import (
	"testing"

	"github.com/countersign/countersign/pkg/secret"
)

// TestB11_Base64IsAnAlphabet: 18 characters of base64 hold 108 bits, 19 hold 114.
func TestB11_Base64IsAnAlphabet(t *testing.T) {
	for _, text := range []string{"aB3-xY9_kLmN0pQrStU", "aB3+xY9/kLmN0pQrStU"} {
		if err := secret.CheckImport(text); err != nil {
			t.Errorf("19 characters are refused: %v", err)
		}
		if secret.CheckImport(text[:18]) == nil {
			t.Error("18 characters, which hold 108 bits, are accepted")
		}
	}
}
