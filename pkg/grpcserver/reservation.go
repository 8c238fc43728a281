package grpcserver

import (
	"sync/atomic"

	"golang.org/x/sync/semaphore"
)

// reservation is the part of RequestLimits.MaxBytes that one call has reserved, in bytes. It is safe for
// concurrent use: a stream's messages may be read on another goroutine than its handler's.
type reservation struct {
	budget   *semaphore.Weighted
	reserved atomic.Int64
	closed   atomic.Bool
}

// set records the bytes that the caller has acquired from the budget. Nothing may be recorded before.
func (r *reservation) set(bytes int64) {
	r.reserved.Store(bytes)
	if r.closed.Load() {
		r.release()
	}
}

// release returns the recorded bytes to the budget.
func (r *reservation) release() { r.budget.Release(r.reserved.Swap(0)) }

// close returns the recorded bytes to the budget. A later set returns its bytes at once.
func (r *reservation) close() {
	r.closed.Store(true)
	r.release()
}
