package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Lock locks a file until unlock is called, against other processes and goroutines that call Lock. Use it to
// read a file, change the contents, and write them back. It waits while another caller holds the lock. The
// end of a process releases its locks. The folder must exist; the file need not.
//
// The lock is a second file beside it, since the file itself is replaced. unlock removes the second file.
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
				_ = os.Remove(at) // removed before it is released: the next holder sees that, and makes a new one
				_ = held.Close()
			}, nil
		}
		if err := errors.Join(err, held.Close()); err != nil {
			return nil, err
		}
	}
}

// isAt reports whether an open file is still the file of a name.
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
