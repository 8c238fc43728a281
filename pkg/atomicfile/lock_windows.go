package atomicfile

import (
	"os"

	"golang.org/x/sys/windows"
)

// lock waits for an exclusive lock on a file. Closing the file releases it (LockFileEx).
func lock(f *os.File) error {
	return windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK, 0, 1, 0, new(windows.Overlapped))
}
