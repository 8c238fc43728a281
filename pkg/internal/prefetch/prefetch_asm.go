//go:build amd64 || arm64

package prefetch

import "unsafe"

// Lines asks the processor for at least one cache line, beginning at an address, and does not wait for it.
// Any address is allowed: a prefetch never faults.
//
//go:noescape
func Lines(at unsafe.Pointer, lines int)
