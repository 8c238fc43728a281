package keyring_test

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/countersign/countersign/pkg/keyring"
)

func TestParseAcceptsOnlyTheForm(t *testing.T) {
	secret := key('S')
	inBase64 := base64.StdEncoding.EncodeToString(secret)
	good := ringFile("a", map[string][]byte{"a": secret})
	for _, tt := range []struct {
		name, data string
		ok         bool
	}{
		{"one key", good, true},
		{"two keys", ringFile("b", map[string][]byte{"a": secret, "b": key('b')}), true},
		{"space around", " \n" + good + "\n\n", true},
		{"longest id", ringFile(strings.Repeat("a", 32), map[string][]byte{strings.Repeat("a", 32): secret}), true},

		{"nothing", "", false},
		{"null", "null", false},
		{"empty object", "{}", false},
		{"a list", "[" + good + "]", false},
		{"the key alone", inBase64, false},
		{"the key as JSON", `"` + inBase64 + `"`, false},
		{"cut", good[:len(good)-1], false},
		{"two rings", good + good, false},
		{"something behind", good + " x", false},
		{"a brace too many", good + "}", false},
		{"unknown field", `{"current":"a","previous":"a","keys":{"a":"` + inBase64 + `"}}`, false},
		{"two keys by one id", `{"current":"a","keys":{"a":"` + inBase64 + `","a":"` +
			base64.StdEncoding.EncodeToString(key('b')) + `"}}`, false},
		{"two lists of keys", `{"current":"a","keys":{"a":"` + inBase64 + `"},"keys":{"a":"` + inBase64 + `"}}`, false},
		{"two lists in two cases", `{"current":"a","keys":{"a":"` + inBase64 + `"},"Keys":{"b":"` + inBase64 + `"}}`, false},
		{"two current ones", `{"current":"b","current":"a","keys":{"a":"` + inBase64 + `"}}`, false},
		{"a byte order mark", "\ufeff" + good, false},
		{"ids in two cases", `{"current":"a","keys":{"a":"` + inBase64 + `","A":"` +
			base64.StdEncoding.EncodeToString(key('b')) + `"}}`, true},
		{"no current", `{"keys":{"a":"` + inBase64 + `"}}`, false},
		{"current is not among the keys", ringFile("b", map[string][]byte{"a": secret}), false},
		{"no keys", `{"current":"a"}`, false},
		{"keys is null", `{"current":"a","keys":null}`, false},
		{"key is null", `{"current":"a","keys":{"a":null}}`, false},
		{"empty id", ringFile("", map[string][]byte{"": secret}), false},
		{"short key", ringFile("a", map[string][]byte{"a": secret[:31]}), false},
		{"long key", ringFile("a", map[string][]byte{"a": append(key('S'), 'S')}), false},
		{"short key beside a good one", ringFile("a", map[string][]byte{"a": secret, "b": secret[:16]}), false},
		{"hexadecimal key", `{"current":"a","keys":{"a":"` + hex.EncodeToString(secret) + `"}}`, false},
		{"not base64", `{"current":"a","keys":{"a":"` + inBase64[:40] + `!!!="}}`, false},
		{"key instead of its id", `{"current":"a","keys":{"` + inBase64 + `":"` + inBase64 + `"}}`, false},
		{"key and id the wrong way round", `{"current":"a","keys":{"` + inBase64 + `":"a"}}`, false},
		{"key instead of the current id", `{"current":"` + inBase64 + `","keys":{"a":"` + inBase64 + `"}}`, false},
		{"hexadecimal key as an id", ringFile(hex.EncodeToString(secret),
			map[string][]byte{hex.EncodeToString(secret): secret}), false},
		{"id with a space", ringFile("a b", map[string][]byte{"a b": secret}), false},
		{"id with a line break", ringFile("a\n", map[string][]byte{"a\n": secret}), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := keyring.Parse([]byte(tt.data))
			if (err == nil) != tt.ok || (r != nil) != tt.ok {
				t.Fatalf("ring %v, error %v; want success %v", r, err, tt.ok)
			}
			if err != nil && showsKey(err.Error(), secret) {
				t.Errorf("the error holds the key: %v", err)
			}
		})
	}
}

func TestLoadNamesTheFileAndNotTheKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ring.json")
	if _, err := keyring.Load(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if err := os.WriteFile(path, []byte(ringFile("a", map[string][]byte{"a": key('S')[:31]})), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := keyring.Load(path)
	if err == nil || !strings.Contains(err.Error(), path) || showsKey(err.Error(), key('S')) {
		t.Errorf("a bad file: %v", err)
	}
}

func TestCreatedFileIsReadableByItsOwnerOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "ring.json")
	r := ring(t, "b", map[string][]byte{"a": key('a'), "b": key('b')})
	if err := r.Create(path); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		info, err := os.Stat(name)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %v (%v)", filepath.Base(name), info.Mode(), want, err)
		}
	}
	loaded, err := keyring.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"a", "b"} {
		was, _ := r.SignWith(id, []byte("part"))
		if err := loaded.Verify(id, was[:], []byte("part")); err != nil {
			t.Errorf("key %s after a round trip: %v", id, err)
		}
	}
	if loaded.String() != r.String() {
		t.Errorf("the current key is %v, was %v", loaded, r)
	}
}

func TestCreateRefusesAnExistingFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ring.json")
	first := keyring.Generate()
	if err := first.Create(path); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := keyring.Generate().Create(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("creating it again: %v, want fs.ErrExist", err)
	}
	after, err := os.ReadFile(path)
	if err != nil || string(after) != string(before) {
		t.Errorf("the file was changed (%v)", err)
	}
	if err := first.Create(filepath.Join(path, "below")); err == nil || showsKey(err.Error(), key('S')) {
		t.Errorf("creating it below a file: %v", err)
	}
}
