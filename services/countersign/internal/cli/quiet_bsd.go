//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package cli

import "golang.org/x/sys/unix"

// The requests that read and set what a terminal does.
const (
	getTerminal = unix.TIOCGETA
	setTerminal = unix.TIOCSETA
)
