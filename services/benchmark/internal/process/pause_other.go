//go:build !unix

package process

import "errors"

// Pause fails: only Unix systems can pause a process.
func (*running) Pause() error { return errors.ErrUnsupported }

// Resume fails: only Unix systems can pause a process.
func (*running) Resume() error { return errors.ErrUnsupported }
