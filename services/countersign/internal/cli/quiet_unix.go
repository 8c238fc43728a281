//go:build linux || darwin || dragonfly || freebsd || netbsd || openbsd

package cli

import "golang.org/x/sys/unix"

// quiet switches a terminal's echo off until restore is called. term.ReadPassword does so for one line only,
// and the terminal would show text that is pasted after that line.
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
