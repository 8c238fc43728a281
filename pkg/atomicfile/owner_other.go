//go:build !unix

package atomicfile

import "io/fs"

// ownerToKeep returns nothing to keep: a new file has the owner that the folder gives.
func ownerToKeep(_, _ fs.FileInfo) (uid, gid int, differs bool) { return 0, 0, false }
