// Package gcbudget bounds the garbage that a process accumulates between two collections, in bytes. This
// package is not part of the public API and may change in any release.
//
// GOGC bounds garbage as a percentage of the live heap, because in most programs a collection costs as much
// as the live heap is large. A validator's live heap is mostly a table without pointers, which costs a
// collection nothing. With GOGC=400, a table of 800 MB would let 3.3 GB of garbage accumulate, and nearly
// every call would write to memory for the first time.
package gcbudget

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
)

const (
	// Bytes is the garbage that a process may accumulate between two collections. It is enough to make
	// collections rare, and little enough that memory is soon reused.
	Bytes = 256 << 20
	// Most is the largest GOGC, in percent. It keeps a process with a small live heap small.
	Most = 400
)

// Keep adapts GOGC after each collection, so that garbage stays within Bytes and Most, until stop is
// called. stop does not wait. Keep does nothing when the environment sets GOGC. GOMEMLIMIT applies in any
// case.
func Keep() (stop func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	k := &keeper{}
	k.adapt()
	k.await()
	return func() { k.stopped.Store(true) }
}

// keeper adapts GOGC. Its methods run on one goroutine at a time: first on the one of Keep, then on the
// runtime's cleanup goroutine.
type keeper struct {
	percent int
	stopped atomic.Bool
}

// sentinel is an object that the next collection finds unreachable. It has a pointer, because the runtime
// packs tiny objects without pointers into one block, which stays alive as a whole.
type sentinel struct{ _ *sentinel }

// await makes the next collection call adapt.
func (k *keeper) await() {
	runtime.AddCleanup(new(sentinel), func(k *keeper) {
		if !k.stopped.Load() {
			k.adapt()
			k.await()
		}
	}, k)
}

// adapt sets GOGC when it is off by more than a tenth. It spares smaller corrections, because setting GOGC
// stops the world for some microseconds.
func (k *keeper) adapt() {
	want := percent(scanned())
	if off := want - k.percent; k.percent == 0 || off*10 > k.percent || -off*10 > k.percent {
		debug.SetGCPercent(want)
		k.percent = want
	}
}

// percent returns the GOGC that allows Bytes between two collections, from 1 to Most.
func percent(alive uint64) int {
	if alive == 0 {
		return Most
	}
	return int(min(max(Bytes*100/alive, 1), Most))
}

// scanned returns the number of bytes that GOGC is a percentage of: the live heap after the latest
// collection, the stacks and the global variables (https://go.dev/doc/gc-guide#GOGC).
func scanned() (bytes uint64) {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}}
	metrics.Read(samples)
	for _, s := range samples {
		bytes += s.Value.Uint64()
	}
	return bytes
}
