// Package asynclog keeps a log that nobody reads from blocking the process. A write to a full pipe blocks the
// goroutine that logs; a write to a closed pipe ends the process. This package is not part of the public API
// and may change in any release.
package asynclog

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"syscall"
	"time"
)

// DefaultLimit is the number of bytes that may wait to be written: about 5,000 lines.
const DefaultLimit = 1 << 20

// retryPause is the pause before a Writer retries a file that would block.
const retryPause = 20 * time.Millisecond

// Writer writes a log from its own goroutine. It drops and counts lines that find no room. It is safe for
// concurrent use. Create one with New.
type Writer struct {
	to     io.Writer
	limit  int
	notice func(lines uint64) []byte
	// wake holds one token when lines wait, or when the Writer was closed.
	wake chan struct{}
	// closed is done when Close was called; ended is closed when the goroutine ends.
	closed context.Context
	close  context.CancelFunc
	ended  chan struct{}

	mu sync.Mutex
	// waiting holds the lines that wait. It never has more than limit bytes.
	waiting []byte
	// dropped counts lost lines; reported counts those of them that the log has reported.
	dropped, reported uint64
}

// New returns a Writer for a file, and starts its goroutine, which ends with Close. At most limit bytes wait,
// and as many are being written. notice returns the line that reports lost lines. It is written where the
// lines are missing, as soon as the file accepts data again.
func New(to io.Writer, limit int, notice func(lines uint64) []byte) *Writer {
	w := &Writer{to: to, limit: limit, notice: notice, wake: make(chan struct{}, 1), ended: make(chan struct{})}
	w.closed, w.close = context.WithCancel(context.Background())
	go w.run()
	return w
}

// Write accepts one or more whole lines. It never blocks and never fails.
func (w *Writer) Write(lines []byte) (int, error) {
	w.mu.Lock()
	if w.closed.Err() != nil || len(w.waiting)+len(lines) > w.limit {
		w.dropped += count(lines)
	} else {
		w.waiting = append(w.waiting, lines...)
	}
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
	return len(lines), nil
}

// Dropped returns the number of lost lines: there was no room, or the file returned an error.
func (w *Writer) Dropped() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dropped
}

// Close rejects further lines. It returns when everything is written, or after bound, so that a file that
// blocks does not keep the process from ending. In that case the goroutine is left running.
func (w *Writer) Close(bound time.Duration) {
	w.close()
	select {
	case w.wake <- struct{}{}:
	default:
	}
	timer := time.NewTimer(bound)
	defer timer.Stop()
	select {
	case <-w.ended:
	case <-timer.C:
	}
}

// run writes until the Writer is closed and nothing waits.
func (w *Writer) run() {
	defer close(w.ended)
	var spare []byte
	takes := true // whether the file accepted the latest batch
	for {
		<-w.wake
		for {
			// Check closed first: then the batch has everything that was accepted before Close.
			last := w.closed.Err() != nil
			batch, named := w.take(spare, takes)
			if len(batch) == 0 {
				if last {
					return
				}
				break
			}
			takes = w.pass(batch, named)
			spare = batch[:0]
		}
	}
}

// take returns the waiting lines, followed by a line that reports lost lines, and the number that it reports.
// spare is an empty buffer for the next lines. While the file returns errors, take does not return that line
// alone.
func (w *Writer) take(spare []byte, takes bool) (batch []byte, named uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	named = w.dropped - w.reported
	if len(w.waiting) == 0 && (named == 0 || !takes) {
		return nil, 0
	}
	batch, w.waiting = w.waiting, spare
	if named > 0 {
		batch = append(batch, w.notice(named)...)
		w.reported = w.dropped
	}
	return batch, named
}

// pass writes a batch, and reports whether the file accepted it. Lines that the file does not accept are
// lost: a pipe without a reader, or a full disk, must not fill the memory.
func (w *Writer) pass(batch []byte, named uint64) bool {
	for {
		n, err := w.to.Write(batch)
		batch = batch[n:]
		switch {
		case err == nil:
			return true
		case errors.Is(err, syscall.EAGAIN): // another process has made the file non-blocking
			time.Sleep(retryPause)
		default:
			w.lose(batch, named)
			return false
		}
	}
}

// lose counts lines that could not be written. If named is not 0, the last of them is the line that reports
// lost lines. It is no loss itself, and the lines that it named must be reported again.
func (w *Writer) lose(lines []byte, named uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dropped += count(lines)
	if named > 0 {
		w.dropped--
		w.reported -= named
	}
}

func count(lines []byte) uint64 { return uint64(bytes.Count(lines, []byte("\n"))) }
