//go:build amd64 || arm64

package prefetch

import "unsafe"

// Lines asks the processor for some cache lines from an address on, at least one, and does not wait for
// them. It reads nothing that the program could tell: no address is a wrong one.
//
//go:noescape
func Lines(at unsafe.Pointer, lines int)
