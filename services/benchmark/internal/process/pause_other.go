//go:build !unix

package process

import "errors"

// Pause fails: only Unix can do it.
func (*running) Pause() error { return errors.ErrUnsupported }

// Resume fails: only Unix can do it.
func (*running) Resume() error { return errors.ErrUnsupported }
