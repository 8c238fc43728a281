//go:build linux || darwin || dragonfly || freebsd || netbsd || openbsd

package cli

import "golang.org/x/sys/unix"

// quiet lets a terminal show nothing of what is typed, until restore. term.ReadPassword does so for one
// line, and what is pasted behind that line would be shown.
func quiet(descriptor int) (restore func() error, err error) {
	before, err := unix.IoctlGetTermios(descriptor, getTerminal)
	if err != nil {
		return nil, err
	}
	silent := *before
	silent.Lflag &^= unix.ECHO
	if err := unix.IoctlSetTermios(descriptor, setTerminal, &silent); err != nil {
		return nil, err
	}
	return func() error { return unix.IoctlSetTermios(descriptor, setTerminal, before) }, nil
}
