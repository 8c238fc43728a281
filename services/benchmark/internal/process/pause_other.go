//go:build !unix

package process

import "errors"

// Pause fails: only Unix can stop a process.
func (*running) Pause() error { return errors.ErrUnsupported }

// Resume fails: only Unix can stop a process.
func (*running) Resume() error { return errors.ErrUnsupported }
