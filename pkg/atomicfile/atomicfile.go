// Package atomicfile writes over files: a reader sees the old contents or the new ones, and a power cut
// leaves one of the two. A symbolic link stays, and the file that it points to is written. Owner, group and
// mode stay too; access control lists and other extended attributes do not.
package atomicfile

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// Options say how a file is written.
type Options struct {
	// Mode is the mode of a file that did not exist; the umask applies to it.
	Mode fs.FileMode
	// TakeOver lets the new file belong to this process, with Mode, where the process may not keep the
	// owner or the group. Otherwise that is an error: the programs that read the file could not read it any
	// more.
	TakeOver bool
}

// File is a file that is being written aside. Nobody sees it under its name before Commit. It is not safe for
// concurrent use.
type File struct {
	file   *os.File
	target string
}

// Create begins a file that takes the place of the one at a path, if there is one, when it is committed.
// Commit or Discard ends it. It fails at once when the folder cannot be written, when something else than a
// regular file stands there, or when the owner cannot be kept.
func Create(path string, o Options) (*File, error) {
	target, err := Resolve(path)
	if err != nil {
		return nil, err
	}
	before, err := os.Lstat(target)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		before = nil
	case err != nil:
		return nil, err
	case !before.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file", target)
	}
	removeLeftovers(target)
	mode := o.Mode
	if before != nil {
		mode = 0o600 // until it has the owner and the group that the old mode was meant for
	}
	aside, err := os.OpenFile(asidePrefix(target)+rand.Text()+asideSuffix, os.O_RDWR|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return nil, err
	}
	f := &File{file: aside, target: target}
	if before != nil {
		if err := keep(aside, before, o, (*os.File).Chown); err != nil {
			f.Discard()
			return nil, fmt.Errorf("%s: %w", target, err)
		}
	}
	return f, nil
}

// Write adds data to the file aside.
func (f *File) Write(data []byte) (int, error) { return f.file.Write(data) }

// Commit makes sure that the file is on disk and puts it in its place. On an error the file that was there
// is still there, unless only its name could not be made sure of.
func (f *File) Commit() error {
	err := f.commit()
	if err != nil {
		f.Discard()
	}
	return err
}

func (f *File) commit() error {
	if err := f.file.Sync(); err != nil {
		return err
	}
	if err := f.file.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.file.Name(), f.target); err != nil {
		return err
	}
	return SyncFolder(f.target)
}

// Discard ends the file and leaves nothing of it. After Commit it does nothing.
func (f *File) Discard() {
	_ = f.file.Close()
	_ = os.Remove(f.file.Name())
}

// Write replaces the contents of a file, or makes it. What is no regular file, such as a pipe or
// /dev/stdout, is written to.
func Write(path string, data []byte, o Options) error {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		return writeThrough(path, data)
	}
	f, err := Create(path, o)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		f.Discard()
		return err
	}
	return f.Commit()
}

func writeThrough(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// maxLinks is how many links lead on from one to the next before they count as a circle, as in Linux
// (path_resolution(7)).
const maxLinks = 40

// Resolve returns the path of the file that a path means: where it is a symbolic link, that to which it
// points, which need not exist.
func Resolve(path string) (string, error) {
	for range maxLinks {
		info, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) {
			return path, nil
		}
		if err != nil {
			return "", err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			return path, nil
		}
		next, err := os.Readlink(path)
		if err != nil {
			return "", err
		}
		if !filepath.IsAbs(next) {
			// Not filepath.Join, which takes "link/.." for nothing: the link may lead elsewhere.
			folder, _ := filepath.Split(path)
			next = folder + next
		}
		path = next
	}
	return "", fmt.Errorf("%s: too many symbolic links", path)
}

// SyncFolder makes sure that the name of a file is on disk: without it a power cut can undo a file that was
// synced.
func SyncFolder(path string) error {
	if runtime.GOOS == "windows" {
		return nil // it has no such call for folders
	}
	folder, err := os.Open(folderOf(path))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// folderOf returns the folder of a path. Unlike filepath.Dir it does not shorten the path, which changes
// its meaning where a link is part of it.
func folderOf(path string) string {
	folder, _ := filepath.Split(path)
	if folder == "" {
		return "."
	}
	return folder
}

const (
	asideSuffix = ".new"
	// leftoverAge is how old a file aside must be to be one that nobody writes to any more.
	leftoverAge = time.Hour
)

func asidePrefix(path string) string {
	folder, name := filepath.Split(path)
	return folder + "." + name + "-"
}

// removeLeftovers removes what processes left behind that were killed while they wrote.
func removeLeftovers(target string) {
	_, prefix := filepath.Split(asidePrefix(target))
	entries, _ := os.ReadDir(folderOf(target)) // a folder that cannot be read keeps what is left
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), prefix) || !strings.HasSuffix(entry.Name(), asideSuffix) {
			continue
		}
		if info, err := entry.Info(); err == nil && time.Since(info.ModTime()) > leftoverAge {
			_ = os.Remove(filepath.Join(folderOf(target), entry.Name()))
		}
	}
}
