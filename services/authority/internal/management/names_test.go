package management

import (
	"crypto/sha256"
	"testing"

	pb "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// TestB01_Names: names that look the same become equal, or are rejected.
func TestB01_Names(t *testing.T) {
	for _, bad := range []string{
		"a\u200bb", "a\u202eb", "\ufeffa", "a\u2028b", "\u3164", "a\ufe0f", "a\U000e0041", "\u2800",
		"a\ue000", "a\u00a0b", "a\xff", "a\x1b[2J",
	} {
		if name, err := cleanName("name", bad); err == nil {
			t.Errorf("%q is taken as %q", bad, name)
		}
	}
	if name, err := cleanName("name", " Cafe\u0301 "); err != nil || name != "Caf\u00e9" {
		t.Errorf("got %q, %v", name, err)
	}
}

// TestNotesAreShown: people read notes, so a note may hide nothing. It may have several lines.
func TestNotesAreShown(t *testing.T) {
	for _, bad := range []string{"a\u200bb", "a\u202eb", "a\x1b[2J", "a\rb", "a\xff"} {
		if checkNote("note", bad) == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	if err := checkNote("note", "main site\n\tof the shop"); err != nil {
		t.Error(err)
	}
}

// TestB11_DigestOfNothing: the digest of an empty text is not the digest of a secret.
func TestB11_DigestOfNothing(t *testing.T) {
	nothing := sha256.Sum256(nil)
	for _, digest := range [][]byte{nothing[:], make([]byte, 32)} {
		if _, err := importOf("", &pb.TokenImport{Name: "a", Credential: &pb.TokenImport_Sha256{Sha256: digest}}); err == nil {
			t.Errorf("%x is taken", digest)
		}
	}
}
