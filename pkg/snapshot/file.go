package snapshot

import (
	"bufio"
	"os"
	"path/filepath"
	"time"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/record"
)

// File is a file that is being written aside: nobody sees it under its name before Commit.
type File struct {
	*Writer
	path     string
	file     *os.File
	buffered *bufio.Writer
}

// Create begins a file that takes the place of the one at a path, if there is one, when it is committed. Only its owner
// can read it. Commit or Discard ends it.
func Create(path string, ring *keyring.Ring, meta record.Meta, kind Kind) (*File, error) {
	removeLeftovers(path)
	file, err := os.CreateTemp(filepath.Dir(path), asidePattern(path)) // which gives mode 0600
	if err != nil {
		return nil, err
	}
	f := &File{path: path, file: file, buffered: bufio.NewWriterSize(file, recordSize)}
	if f.Writer, err = NewWriter(f.buffered, ring, meta, kind); err != nil {
		f.Discard()
		return nil, err
	}
	return f, nil
}

// Commit ends the file, makes sure that it is on disk, and puts it in its place. On an error the file that was there is
// still there.
func (f *File) Commit() error {
	err := f.commit()
	if err != nil {
		f.Discard()
	}
	return err
}

func (f *File) commit() error {
	if err := f.Close(); err != nil {
		return err
	}
	if err := f.buffered.Flush(); err != nil {
		return err
	}
	return f.place()
}

// Replace puts data in the place of a file as a File does: written aside, made sure that it is on disk, and renamed. Only its
// owner can read it.
func Replace(path string, data []byte) error {
	removeLeftovers(path)
	file, err := os.CreateTemp(filepath.Dir(path), asidePattern(path))
	if err != nil {
		return err
	}
	f := &File{path: path, file: file}
	if _, err = file.Write(data); err == nil {
		err = f.place()
	}
	if err != nil {
		f.Discard()
	}
	return err
}

// place makes sure that what was written is on disk, and gives it its name.
func (f *File) place() error {
	if err := f.file.Sync(); err != nil {
		return err
	}
	if err := f.file.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.file.Name(), f.path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(f.path))
}

// Discard ends the file and leaves nothing of it. After Commit it does nothing.
func (f *File) Discard() {
	_ = f.file.Close()
	_ = os.Remove(f.file.Name())
}

// leftoverAge is how old a file aside must be to be one that nobody writes to any more.
const leftoverAge = time.Hour

func asidePattern(path string) string { return "." + filepath.Base(path) + "-*.new" }

// removeLeftovers removes what processes left behind that were killed while they wrote.
func removeLeftovers(path string) {
	left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), asidePattern(path)))
	for _, name := range left {
		if info, err := os.Lstat(name); err == nil && time.Since(info.ModTime()) > leftoverAge {
			_ = os.Remove(name)
		}
	}
}

// syncFolder makes sure that the names in a folder are on disk.
func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	defer folder.Close()
	return folder.Sync()
}
