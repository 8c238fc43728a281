package provision

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/countersign/countersign/pkg/atomicfile"
	"github.com/countersign/countersign/pkg/keyring"
)

// newRing is the path of a ring until its store is initialised.
func (s Store) newRing() string { return s.KeyringFile + ".new" }

// prepareRing returns the ring of an interrupted run, or creates a new one. Concurrent runs get the same
// ring. taken says that another run has given its ring the final name meanwhile.
func (s Store) prepareRing() (ring *keyring.Ring, taken bool, err error) {
	if err := createWhole(s.newRing(), keyring.Generate().Create); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, false, err
	}
	if fileExists(s.KeyringFile) {
		// The new ring has signed nothing, so remove it.
		if err := os.Remove(s.newRing()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, false, err
		}
		return nil, true, nil
	}
	ring, err = keyring.Load(s.newRing())
	if errors.Is(err, fs.ErrNotExist) && fileExists(s.KeyringFile) {
		return nil, true, nil
	}
	return ring, false, err
}

// createWhole creates a file that either exists with its whole content, synced to disk, or does not exist. It
// fails with fs.ErrExist when the file exists.
func createWhole(path string, write func(path string) error) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	folder, err := os.MkdirTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	aside := filepath.Join(folder, filepath.Base(path))
	if err := write(aside); err != nil {
		return err
	}
	// Unlike a rename, a link never replaces a file of another process.
	if err := os.Link(aside, path); err != nil {
		return err
	}
	return atomicfile.SyncFolder(path)
}

func fileExists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
