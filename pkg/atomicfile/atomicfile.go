// Package atomicfile replaces files atomically: a reader sees the old or the new contents, and so does
// everybody after a power failure. A symbolic link stays, and its target is replaced. Owner, group and mode
// stay too. Access control lists and other extended attributes are lost. This package is not part of the
// public API and may change in any release.
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

// Options control how a file is written.
type Options struct {
	// Mode is the mode of a new file. The umask applies to it.
	Mode fs.FileMode
	// TakeOver lets the new file belong to this process, with Mode, where the process may not keep the owner
	// or the group. Without it that is an error, since the programs that read the file might lose access.
	TakeOver bool
}

// File is a file that is being written. It appears under its path only at Commit. It is not safe for
// concurrent use.
type File struct {
	file   *os.File
	target string
}

// Create begins a file that replaces the file at a path when it is committed. Commit or Discard must end it.
// Create fails when the folder is not writable, when something other than a regular file is at the path, or
// when the owner cannot be kept.
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
		mode = 0o600 // until it has the owner and the group for which the old mode was meant
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

// Write appends data to the file.
func (f *File) Write(data []byte) (int, error) { return f.file.Write(data) }

// Commit syncs the file to disk and moves it to its path. After an error the earlier file is still there,
// unless only the sync of the folder failed.
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

// Discard drops the file. After Commit it does nothing.
func (f *File) Discard() {
	_ = f.file.Close()
	_ = os.Remove(f.file.Name())
}

// Write replaces the contents of a file, or creates it. It writes directly to something that is not a regular
// file, such as a pipe or /dev/stdout.
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

// maxLinks is how many symbolic links may follow each other before they count as a loop, as in Linux
// (path_resolution(7)).
const maxLinks = 40

// Resolve follows symbolic links to the path of the file that path means. The target need not exist.
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
			// filepath.Join would remove "link/..", but the link may lead elsewhere.
			folder, _ := filepath.Split(path)
			next = folder + next
		}
		path = next
	}
	return "", fmt.Errorf("%s: too many symbolic links", path)
}

// SyncFolder syncs the folder of a path to disk. Without it a power failure can undo the creation of a synced
// file.
func SyncFolder(path string) error {
	if runtime.GOOS == "windows" {
		return nil // Windows has no such call for folders
	}
	folder, err := os.Open(folderOf(path))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// folderOf returns the folder of a path. Unlike filepath.Dir it does not clean the path, which would change
// its meaning when the path contains a link.
func folderOf(path string) string {
	folder, _ := filepath.Split(path)
	if folder == "" {
		return "."
	}
	return folder
}

const (
	asideSuffix = ".new"
	// leftoverAge is the age at which an unfinished file counts as abandoned.
	leftoverAge = time.Hour
)

func asidePrefix(path string) string {
	folder, name := filepath.Split(path)
	return folder + "." + name + "-"
}

// removeLeftovers removes unfinished files of processes that were killed.
func removeLeftovers(target string) {
	_, prefix := filepath.Split(asidePrefix(target))
	entries, _ := os.ReadDir(folderOf(target)) // an unreadable folder keeps its leftovers
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), prefix) || !strings.HasSuffix(entry.Name(), asideSuffix) {
			continue
		}
		if info, err := entry.Info(); err == nil && time.Since(info.ModTime()) > leftoverAge {
			_ = os.Remove(filepath.Join(folderOf(target), entry.Name()))
		}
	}
}
