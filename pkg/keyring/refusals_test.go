package keyring_test

import (
	"strings"
	"testing"

	"github.com/countersign/countersign/pkg/keyring"
)

// TestRefusalSaysWhatIsWrong: each mistake has an error of its own, also a mistake beside good keys.
func TestRefusalSaysWhatIsWrong(t *testing.T) {
	good := key(1)
	for _, tt := range []struct{ name, file, want string }{
		{"no JSON", `{`, "not one JSON value"},
		{"current is no id", ringFile("no id", map[string][]byte{"no id": good}), "current: want the id of a key"},
		{
			"a bad id beside a good one", ringFile("a", map[string][]byte{"a": good, "no id": key(2)}),
			"want ids of 1 to 32 characters",
		},
		{"a short key", ringFile("a", map[string][]byte{"a": good, "b": key(2)[1:]}), `key "b" has 31 bytes, want 32`},
		{"a long key", ringFile("a", map[string][]byte{"a": append(key(1), 1)}), `key "a" has 33 bytes, want 32`},
		{"current is not there", ringFile("b", map[string][]byte{"a": good}), `current key "b" is not among the keys`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := keyring.Parse([]byte(tt.file)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
		})
	}
}
