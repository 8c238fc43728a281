package cmdline

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// The file of a flag is replaced, through symbolic links. A device is written to.
func TestWriteFile(t *testing.T) {
	folder := t.TempDir()
	link, real := filepath.Join(folder, "link"), filepath.Join(folder, "real")
	if err := errors.Join(os.WriteFile(real, []byte("longer than what comes"), 0o640), os.Symlink(real, link)); err != nil {
		t.Fatal(err)
	}
	text := func(w io.Writer) error { _, err := io.WriteString(w, "new"); return err }
	for _, path := range []string{link, os.DevNull, ""} {
		if err := WriteFile("--json-file", path, text); err != nil {
			t.Errorf("%q: %v", path, err)
		}
	}
	raw, err := os.ReadFile(real)
	info, errs := os.Lstat(link)
	if err := errors.Join(err, errs); err != nil || string(raw) != "new" || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("%q through %v, %v", raw, info, err)
	}
	failed := func(io.Writer) error { return errors.New("failed") }
	if err := WriteFile("--json-file", real, failed); err == nil {
		t.Error("no error")
	}
	if raw, err := os.ReadFile(real); err != nil || string(raw) != "new" {
		t.Errorf("%q, %v", raw, err)
	}
}
