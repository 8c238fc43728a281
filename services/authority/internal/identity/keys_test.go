package identity_test

import (
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/services/authority/internal/identity"
)

func hexDigest(text string) string {
	digest := secret.DigestOf(text)
	return hex.EncodeToString(digest[:])
}

// TestB26_BadKeysFiles are refused at once, by name and without what they hold.
func TestB26_BadKeysFiles(t *testing.T) {
	key := secret.MintAdminKey().Reveal()
	entry := func(name, role, digest string) string {
		return `{"name": "` + name + `", "role": "` + role + `", "sha256": "` + digest + `"}`
	}
	good := entry("ada", "admin", hexDigest(key))
	for _, tt := range []struct{ name, file string }{
		{"empty", ""},
		{"no keys", `{"keys": []}`},
		{"nothing in it", `{}`},
		{"not JSON", "csadm_" + strings.Repeat("0", 49)},
		{"unknown field", `{"keys": [` + good + `], "more": 1}`},
		{"name twice", `{"keys": [` + good + "," + entry("ada", "viewer", hexDigest("x")) + `]}`},
		{"key twice", `{"keys": [` + good + "," + entry("eve", "viewer", hexDigest(key)) + `]}`},
		{"unknown role", `{"keys": [` + entry("ada", "root", hexDigest(key)) + `]}`},
		{"no role", `{"keys": [` + entry("ada", "", hexDigest(key)) + `]}`},
		{"no name", `{"keys": [` + entry(" ", "admin", hexDigest(key)) + `]}`},
		{"short digest", `{"keys": [` + entry("ada", "admin", hexDigest(key)[2:]) + `]}`},
		{"the key itself", `{"keys": [` + entry("ada", "admin", key) + `]}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := t.TempDir() + "/admin-keys.json"
			if err := os.WriteFile(path, []byte(tt.file), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := identity.LoadKeys(path)
			if err == nil || !strings.Contains(err.Error(), path) {
				t.Fatalf("got %v, want an error that names the file", err)
			}
			if strings.Contains(err.Error(), key) {
				t.Errorf("B02: the error holds the key: %v", err)
			}
		})
	}
	if _, err := identity.LoadKeys(t.TempDir() + "/missing.json"); err == nil {
		t.Error("a missing file is not an error")
	}
}
