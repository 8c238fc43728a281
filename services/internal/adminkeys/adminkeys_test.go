package adminkeys

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Two files that were joined hold a key that the next write would drop: the file is refused, and stays as it is.
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
	if _, err := Add(joined, "carol", Viewer); err == nil || !strings.Contains(err.Error(), joined+": want one JSON object: something follows it") {
		t.Errorf("%v", err)
	}
	if after, err := os.ReadFile(joined); err != nil || string(after) != before {
		t.Errorf("the file is changed: %v", err)
	}
}

// TestB26_NamesAreSeen: two names that look the same would be two people in the audit trail.
func TestB26_NamesAreSeen(t *testing.T) {
	for _, bad := range []string{"ali\u200bce", "\u202ealice", "\ufeffalice", "a\x1b", "a\xff"} {
		if _, err := Add(filepath.Join(t.TempDir(), "keys.json"), bad, Admin); err == nil || !strings.Contains(err.Error(), "keys[0].name") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
