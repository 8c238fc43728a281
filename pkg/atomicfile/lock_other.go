//go:build aix || solaris || !(unix || windows)

package atomicfile

import (
	"errors"
	"fmt"
	"os"
)

// lock fails: a lock that excludes nobody would lose other processes' changes.
func lock(*os.File) error {
	return fmt.Errorf("files cannot be locked on this system: %w", errors.ErrUnsupported)
}
