//go:build aix || solaris || !(unix || windows)

package atomicfile

import (
	"errors"
	"fmt"
	"os"
)

// lock fails: a lock that holds nobody off would lose what another writes.
func lock(*os.File) error {
	return fmt.Errorf("files cannot be locked on this system: %w", errors.ErrUnsupported)
}
