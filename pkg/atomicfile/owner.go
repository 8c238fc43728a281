package atomicfile

import (
	"fmt"
	"io/fs"
	"os"
)

// keep gives a new file the owner, the group and the mode of the file that it replaces.
func keep(aside *os.File, before fs.FileInfo, o Options, chown func(f *os.File, uid, gid int) error) error {
	now, err := aside.Stat()
	if err != nil {
		return err
	}
	mode := before.Mode().Perm()
	if uid, gid, differs := ownerToKeep(before, now); differs {
		switch err := chown(aside, uid, gid); {
		case err == nil:
		case o.TakeOver:
			mode = o.Mode // the old group's rights are not for another group
		default:
			return fmt.Errorf("its owner and group (%d:%d) cannot be kept; nothing was changed: "+
				"run this as its owner, or change the owner first: %w", uid, gid, err)
		}
	}
	return aside.Chmod(mode)
}
