package atomicfile

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Many writers at once, through the path or through a link, each add a line to what they have read. No line
// is lost.
func TestLock(t *testing.T) {
	folder := t.TempDir()
	path, link := filepath.Join(folder, "f"), filepath.Join(folder, "link")
	check(t, os.Symlink("f", link))
	const writers, each = 8, 10
	add := func(path, line string) error {
		unlock, err := Lock(path)
		if err != nil {
			return err
		}
		defer unlock()
		before, err := os.ReadFile(path)
		if err != nil && !os.IsNotExist(err) {
			return err
		}
		return Write(path, fmt.Appendf(before, "%s\n", line), Options{Mode: 0o600})
	}
	var all sync.WaitGroup
	for writer := range writers {
		all.Go(func() {
			for i := range each {
				if err := add([]string{path, link}[writer%2], fmt.Sprintf("%d-%d", writer, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	data, err := os.ReadFile(path)
	check(t, err)
	if lines := strings.Count(string(data), "\n"); lines != writers*each {
		t.Errorf("%d lines, want %d", lines, writers*each)
	}
	wantOnly(t, folder, "f", "link")
}

// A lock file that a killed process left blocks nobody.
func TestLockThatWasLeft(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	put(t, filepath.Join(filepath.Dir(path), ".f.lock"), "", 0o600)
	unlock, err := Lock(path)
	check(t, err)
	unlock()
	wantOnly(t, filepath.Dir(path))
}
