//go:build unix

package atomicfile

import (
	"io/fs"
	"syscall"
)

// ownerToKeep returns the owner and the group of the earlier file, and whether the new file has others.
func ownerToKeep(before, now fs.FileInfo) (uid, gid int, differs bool) {
	was, ok := before.Sys().(*syscall.Stat_t)
	is, okNow := now.Sys().(*syscall.Stat_t)
	if !ok || !okNow {
		return 0, 0, false
	}
	return int(was.Uid), int(was.Gid), was.Uid != is.Uid || was.Gid != is.Gid
}
