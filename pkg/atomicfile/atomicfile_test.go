package atomicfile

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func put(t *testing.T, path, text string, mode fs.FileMode) {
	t.Helper()
	check(t, os.WriteFile(path, []byte(text), 0o600))
	check(t, os.Chmod(path, mode))
}

func want(t *testing.T, path, text string, mode fs.FileMode) {
	t.Helper()
	data, err := os.ReadFile(path)
	check(t, err)
	info, err := os.Stat(path)
	check(t, err)
	if string(data) != text || info.Mode().Perm() != mode {
		t.Errorf("%s holds %q with mode %o, want %q with %o", path, data, info.Mode().Perm(), text, mode)
	}
}

// wantOnly checks that a folder holds only the given files.
func wantOnly(t *testing.T, folder string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(folder)
	check(t, err)
	var there []string
	for _, entry := range entries {
		there = append(there, entry.Name())
	}
	if !slices.Equal(there, names) {
		t.Errorf("the folder holds %q, want %q", there, names)
	}
}

func TestWriteKeepsTheMode(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "f")
	check(t, Write(path, []byte("new"), Options{Mode: 0o600}))
	want(t, path, "new", 0o600)
	for _, mode := range []fs.FileMode{0o640, 0o664, 0o400, 0o644} {
		check(t, os.Chmod(path, mode))
		check(t, Write(path, []byte("again"), Options{Mode: 0o600}))
		want(t, path, "again", mode)
	}
	wantOnly(t, folder, "f")
}

// A link stays a link, whatever chain leads to the file, and also when the file does not exist yet.
func TestWriteKeepsLinks(t *testing.T) {
	for name, tt := range map[string]struct {
		there bool
		links [][2]string // from, to
	}{
		"to a file":                     {true, [][2]string{{"f", "real/f"}}},
		"to no file yet":                {false, [][2]string{{"f", "real/f"}}},
		"through another link":          {true, [][2]string{{"f", "real/g"}, {"real/g", "f"}}},
		"as Kubernetes mounts a volume": {true, [][2]string{{"f", "..data/f"}, {"..data", "real"}}},
		"up from a folder that is a link": {
			true,
			[][2]string{{"f", "elsewhere/../real/f"}, {"elsewhere", "real/deep"}, {"real/real", "."}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			check(t, os.MkdirAll(filepath.Join(folder, "real", "deep"), 0o700))
			mode := fs.FileMode(0o600)
			if tt.there {
				mode = 0o640
				put(t, filepath.Join(folder, "real", "f"), "old", mode)
			}
			for _, link := range tt.links {
				check(t, os.Symlink(link[1], filepath.Join(folder, link[0])))
			}
			check(t, Write(filepath.Join(folder, "f"), []byte("new"), Options{Mode: 0o600}))
			for _, link := range tt.links {
				if to, err := os.Readlink(filepath.Join(folder, link[0])); err != nil || to != link[1] {
					t.Errorf("the link %s leads to %q, %v", link[0], to, err)
				}
			}
			want(t, filepath.Join(folder, "f"), "new", mode)
			want(t, filepath.Join(folder, "real", "f"), "new", mode)
		})
	}
}

func TestWriteRefuses(t *testing.T) {
	folder := t.TempDir()
	check(t, os.Symlink("b", filepath.Join(folder, "a")))
	check(t, os.Symlink("a", filepath.Join(folder, "b")))
	for name, path := range map[string]string{
		"a circle of links": filepath.Join(folder, "a"),
		"a folder":          folder,
		"no folder":         filepath.Join(folder, "none", "f"),
	} {
		if err := Write(path, nil, Options{Mode: 0o600}); err == nil {
			t.Errorf("%s was written over", name)
		}
	}
	wantOnly(t, folder, "a", "b")
}

// Something other than a regular file is written to directly, and stays what it is.
func TestWriteThrough(t *testing.T) {
	if err := Write(os.DevNull, []byte("x"), Options{Mode: 0o600}); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(os.DevNull); err != nil || info.Mode()&fs.ModeDevice == 0 {
		t.Errorf("%s is %v, %v", os.DevNull, info.Mode(), err)
	}
	if f, err := Create(os.DevNull, Options{}); err == nil {
		f.Discard()
		t.Errorf("%s was taken for a file", os.DevNull)
	}
}

func TestUntilCommitTheOldFileIsThere(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "f")
	put(t, path, "old", 0o600)
	for _, commit := range []bool{false, true} {
		f, err := Create(path, Options{Mode: 0o600})
		check(t, err)
		_, err = f.Write([]byte("new"))
		check(t, err)
		want(t, path, "old", 0o600)
		if commit {
			check(t, f.Commit())
			want(t, path, "new", 0o600)
		}
		f.Discard()
		wantOnly(t, folder, "f")
	}
}

// The leftovers of a killed writer are removed when nobody can be writing to them, beside the file that a
// link leads to.
func TestLeftoversAreRemoved(t *testing.T) {
	folder := t.TempDir()
	real := filepath.Join(folder, "real[1]")
	check(t, os.Mkdir(real, 0o700))
	for name, age := range map[string]time.Duration{
		".f-1.new": 2 * time.Hour, ".f-2.new": time.Minute, ".g-1.new": 2 * time.Hour, "f": 2 * time.Hour,
	} {
		put(t, filepath.Join(real, name), "", 0o600)
		check(t, os.Chtimes(filepath.Join(real, name), time.Time{}, time.Now().Add(-age)))
	}
	link := filepath.Join(folder, "link")
	check(t, os.Symlink(filepath.Join(real, "f"), link))
	check(t, Write(link, nil, Options{Mode: 0o600}))
	wantOnly(t, real, ".f-2.new", ".g-1.new", "f")
}
