package grpcserver

import (
	"sync/atomic"

	"golang.org/x/sync/semaphore"
)

// holding is what one call holds of Requests.MaxBytes. It is safe for concurrent use: the messages of a
// stream may be read on another goroutine than that of its handler.
type holding struct {
	bytes *semaphore.Weighted
	held  atomic.Int64
	ended atomic.Bool
}

// keep holds bytes that were taken, in place of none.
func (h *holding) keep(taken int64) {
	h.held.Store(taken)
	if h.ended.Load() {
		h.drop()
	}
}

// drop gives back what is held.
func (h *holding) drop() { h.bytes.Release(h.held.Swap(0)) }

// end gives back what is held, and what is kept from now on.
func (h *holding) end() {
	h.ended.Store(true)
	h.drop()
}
