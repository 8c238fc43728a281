package cli

import "golang.org/x/sys/unix"

// The requests that read and set what a terminal does.
const (
	getTerminal = unix.TCGETS
	setTerminal = unix.TCSETS
)
