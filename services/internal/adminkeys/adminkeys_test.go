package adminkeys

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// The next write would drop a key of two joined files. So such a file is rejected, and stays as it is.
func TestB26_JoinedFilesAreRefused(t *testing.T) {
	folder := t.TempDir()
	first, second, joined := filepath.Join(folder, "1"), filepath.Join(folder, "2"), filepath.Join(folder, "joined")
	for path, name := range map[string]string{first: "alice", second: "bob"} {
		if _, err := Add(path, name, Admin); err != nil {
			t.Fatal(err)
		}
	}
	a, _ := os.ReadFile(first)
	b, _ := os.ReadFile(second)
	before := string(a) + string(b)
	if err := os.WriteFile(joined, []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Add(joined, "carol", Viewer); err == nil ||
		!strings.Contains(err.Error(), joined+": want one JSON object: something follows it") {
		t.Errorf("%v", err)
	}
	if after, err := os.ReadFile(joined); err != nil || string(after) != before {
		t.Errorf("the file is changed: %v", err)
	}
}

// The file is replaced in place: a link stays a link, and the readers of the file keep their rights.
func TestB26_AddKeepsLinkAndMode(t *testing.T) {
	folder := t.TempDir()
	link, real := filepath.Join(folder, "keys.json"), filepath.Join(folder, "real", "keys.json")
	if err := os.Mkdir(filepath.Dir(real), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join("real", "keys.json"), link); err != nil {
		t.Fatal(err)
	}
	for i, mode := range []os.FileMode{0o600, 0o640, 0o644} {
		if i > 0 {
			if err := os.Chmod(real, mode); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := Add(link, fmt.Sprint("name", i), Admin); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(real); err != nil {
			t.Error(err)
		} else if info.Mode().Perm() != mode {
			t.Errorf("mode %o, want %o", info.Mode().Perm(), mode)
		}
		if to, err := os.Readlink(link); err != nil || to != filepath.Join("real", "keys.json") {
			t.Errorf("the link leads to %q, %v", to, err)
		}
		if file, err := Load(link); err != nil || len(file.Keys) != i+1 {
			t.Errorf("%v, %v", file, err)
		}
	}
}

// Concurrent additions lose no key.
func TestB26_AddAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "made", "keys.json")
	const writers, each = 8, 8
	var all sync.WaitGroup
	for writer := range writers {
		all.Go(func() {
			for i := range each {
				if _, err := Add(path, fmt.Sprintf("%d-%d", writer, i), Viewer); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if file, err := Load(path); err != nil || len(file.Keys) != writers*each {
		t.Errorf("%d keys, %v; want %d", len(file.Keys), err, writers*each)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
		t.Errorf("beside the file is left %v, %v", left, err)
	}
}

// A duplicate JSON key, or one in another case, would be dropped. So such a file is rejected, and stays as it
// is.
func TestB26_DoubleKeysAreRefused(t *testing.T) {
	const digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
	const entry = `{"name": "a", "role": "admin", "sha256": "` + digest + `"}`
	if _, err := Parse([]byte(`{"keys": [` + entry + `]}`)); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"two lists":                 `{"keys": [` + entry + `], "keys": []}`,
		"a list in another case":    `{"keys": [` + entry + `], "Keys": []}`,
		"two roles":                 `{"keys": [{"name": "a", "role": "viewer", "role": "admin", "sha256": "` + digest + `"}]}`,
		"a role in another case":    `{"keys": [{"name": "a", "role": "viewer", "ROLE": "admin", "sha256": "` + digest + `"}]}`,
		"a name that is not UTF-8":  "{\"keys\": [{\"name\": \"a\xff\", \"role\": \"admin\", \"sha256\": \"" + digest + "\"}]}",
		"a byte order mark":         "\ufeff" + `{"keys": [` + entry + `]}`,
		"more than keys in it":      `{"keys": [` + entry + `], "more": 1}`,
		"more than a key has in it": `{"keys": [{"name": "a", "role": "admin", "sha256": "` + digest + `", "note": ""}]}`,
	} {
		path := filepath.Join(t.TempDir(), "keys.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Add(path, "b", Viewer); err == nil || !strings.HasPrefix(err.Error(), path+": want {") {
			t.Errorf("%s: %v", name, err)
		}
		if after, err := os.ReadFile(path); err != nil || string(after) != text {
			t.Errorf("%s: the file is changed: %v", name, err)
		}
	}
}

// TestB26_NamesAreSeen: two names that look alike would be two people in the audit trail.
func TestB26_NamesAreSeen(t *testing.T) {
	for _, bad := range []string{"ali\u200bce", "\u202ealice", "\ufeffalice", "a\x1b", "a\xff"} {
		if _, err := Add(filepath.Join(t.TempDir(), "keys.json"), bad, Admin); err == nil ||
			!strings.Contains(err.Error(), "keys[0].name") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
