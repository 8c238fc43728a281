// Package gcbudget bounds how much garbage a process piles up between two collections, in bytes. This package
// is not part of the public API and may change in any release.
//
// GOGC bounds it by the size of what is alive. That fits programs whose collections cost what is alive;
// here most of that is a table in which the collector has nothing to look at. With GOGC=400, 800 MB of
// table would let 3.3 GB of garbage pile up, and nearly every call would write to memory that it is the
// first to touch.
package gcbudget

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
)

const (
	// Bytes is the garbage that a process may pile up between two collections: enough that collections are
	// rare, and so little that the memory is soon used again.
	Bytes = 256 << 20
	// Most is the greatest GOGC, in percent, so that a process with little alive stays small.
	Most = 400
)

// Keep adapts GOGC after each collection, so that garbage stays within Bytes and Most, until stop is
// called, which does not wait. It does nothing when the environment has GOGC: what an operator says counts.
// GOMEMLIMIT counts in any case.
func Keep() (stop func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	k := &keeper{}
	k.adapt()
	k.await()
	return func() { k.stopped.Store(true) }
}

// keeper adapts GOGC. Only one goroutine at a time runs its methods: that of Keep, and then that of the
// runtime's cleanups.
type keeper struct {
	percent int
	stopped atomic.Bool
}

// sentinel is what a collection finds unreachable. It has a pointer: the runtime packs tiny objects without
// any together, and they end together.
type sentinel struct{ _ *sentinel }

// await has the next collection call adapt.
func (k *keeper) await() {
	runtime.AddCleanup(new(sentinel), func(k *keeper) {
		if !k.stopped.Load() {
			k.adapt()
			k.await()
		}
	}, k)
}

// adapt sets GOGC when it is off by more than a tenth: setting it stops the world for some microseconds.
func (k *keeper) adapt() {
	want := percent(scanned())
	if off := want - k.percent; k.percent == 0 || off*10 > k.percent || -off*10 > k.percent {
		debug.SetGCPercent(want)
		k.percent = want
	}
}

// percent returns the GOGC with which Bytes are allocated between two collections, at least 1 and at most
// Most.
func percent(alive uint64) int {
	if alive == 0 {
		return Most
	}
	return int(min(max(Bytes*100/alive, 1), Most))
}

// scanned returns of how many bytes GOGC is a percentage: what the latest collection has left, the stacks,
// and the global variables (https://go.dev/doc/gc-guide#GOGC).
func scanned() (bytes uint64) {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}}
	metrics.Read(samples)
	for _, s := range samples {
		bytes += s.Value.Uint64()
	}
	return bytes
}
