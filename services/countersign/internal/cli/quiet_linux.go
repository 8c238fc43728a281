package cli

import "golang.org/x/sys/unix"

// The requests that read and set the state of a terminal.
const (
	getTerminal = unix.TCGETS
	setTerminal = unix.TCSETS
)
