package snapshot

import (
	"bufio"

	"github.com/countersign/countersign/pkg/atomicfile"
	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/record"
)

// options are for files that services and tools write for themselves. A service that now runs as another user
// must still be able to write them.
var options = atomicfile.Options{Mode: 0o600, TakeOver: true}

// File is a file that is being written. It appears under its path only at Commit.
type File struct {
	*Writer
	aside    *atomicfile.File
	buffered *bufio.Writer
}

// Create begins a file that replaces the file at a path when it is committed. Only the owner can read a new
// file; a replacement keeps the owner and the mode. Commit or Discard must end it.
func Create(path string, ring *keyring.Ring, meta record.Meta, kind Kind) (*File, error) {
	aside, err := atomicfile.Create(path, options)
	if err != nil {
		return nil, err
	}
	f := &File{aside: aside, buffered: bufio.NewWriterSize(aside, recordSize)}
	if f.Writer, err = NewWriter(f.buffered, ring, meta, kind); err != nil {
		f.Discard()
		return nil, err
	}
	return f, nil
}

// Commit ends the file, syncs it to disk, and moves it to its path. After an error the earlier file is still
// there.
func (f *File) Commit() error {
	err := f.Close()
	if err == nil {
		err = f.buffered.Flush()
	}
	if err != nil {
		f.Discard()
		return err
	}
	return f.aside.Commit()
}

// Discard drops the file. After Commit it does nothing.
func (f *File) Discard() { f.aside.Discard() }
