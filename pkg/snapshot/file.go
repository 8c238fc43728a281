package snapshot

import (
	"bufio"

	"github.com/countersign/countersign/pkg/atomicfile"
	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/record"
)

// options are those of files that services and tools write for themselves. A service that runs as another
// user than before must be able to go on.
var options = atomicfile.Options{Mode: 0o600, TakeOver: true}

// File is a file that is being written aside: nobody sees it under its name before Commit.
type File struct {
	*Writer
	aside    *atomicfile.File
	buffered *bufio.Writer
}

// Create begins a file that takes the place of the one at a path, if there is one, when it is committed.
// Only its owner can read a new one; one that is there keeps its owner and mode. Commit or Discard ends it.
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

// Commit ends the file, makes sure that it is on disk, and puts it in its place. On an error the file that
// was there is still there.
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

// Discard ends the file and leaves nothing of it. After Commit it does nothing.
func (f *File) Discard() { f.aside.Discard() }
