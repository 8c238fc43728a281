package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Lock keeps other processes, and other goroutines, that lock the same file from it until unlock is called:
// for who reads a file, changes what it has read, and writes it back. It waits as long as another holds the
// lock. A process that ends gives it back. The folder must be there, the file need not.
//
// The lock is a file beside it, since the file itself is replaced. That file is removed again.
func Lock(path string) (unlock func(), err error) {
	target, err := Resolve(path)
	if err != nil {
		return nil, err
	}
	folder, name := filepath.Split(target)
	at := folder + "." + name + ".lock"
	for {
		held, err := os.OpenFile(at, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		if err := lock(held); err != nil {
			return nil, errors.Join(err, held.Close())
		}
		current, err := isAt(held, at)
		if current {
			return func() {
				_ = os.Remove(at) // before it is given back: who waits for it sees then that it is gone, and makes a new one
				_ = held.Close()
			}, nil
		}
		if err := errors.Join(err, held.Close()); err != nil {
			return nil, err
		}
	}
}

// isAt tells whether an open file is the one that has a name.
func isAt(f *os.File, name string) (bool, error) {
	is, err := f.Stat()
	if err != nil {
		return false, err
	}
	there, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(is, there), err
}
