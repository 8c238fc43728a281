// Package asynclog keeps a log that nobody reads from holding up the process that writes it. A write to a
// full pipe blocks, and with it the goroutine that logs; a write to a closed one ends the process.
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

// DefaultLimit is the most bytes of a log that wait to be written: some 5,000 lines.
const DefaultLimit = 1 << 20

// retryPause is how long a Writer waits before it writes again to a file that takes nothing for the moment.
const retryPause = 20 * time.Millisecond

// Writer passes a log on from a goroutine of its own. A line that finds no room is dropped and counted. It
// is safe for concurrent use. Make one with New.
type Writer struct {
	to     io.Writer
	limit  int
	notice func(lines uint64) []byte
	// wake holds one token when something waits, or the Writer was closed.
	wake chan struct{}
	// closed is done when Close was called; ended is closed when nothing is written any more.
	closed context.Context
	close  context.CancelFunc
	ended  chan struct{}

	mu sync.Mutex
	// waiting is what was not taken yet; it never has more than limit bytes.
	waiting []byte
	// dropped is how many lines were lost, told how many of them the log has named.
	dropped, told uint64
}

// New returns a Writer that passes on to a file, and starts its goroutine, which ends with Close. At most
// limit bytes wait, and as many are being written. Notice makes the line that says how many lines were
// lost; it stands in the log where they are missing, as soon as the log takes something again.
func New(to io.Writer, limit int, notice func(lines uint64) []byte) *Writer {
	w := &Writer{to: to, limit: limit, notice: notice, wake: make(chan struct{}, 1), ended: make(chan struct{})}
	w.closed, w.close = context.WithCancel(context.Background())
	go w.run()
	return w
}

// Write takes one or more whole lines. It never blocks and never fails.
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

// Dropped returns how many lines were lost: for want of room, or because the file refused them.
func (w *Writer) Dropped() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dropped
}

// Close takes nothing more, and returns when everything is written, or at the bound: a file that blocks
// does not keep a process from ending. Then the goroutine is left behind.
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
	takes := true // whether the file has taken the latest batch
	for {
		<-w.wake
		for {
			// Closed is looked at first: what was taken before it was closed is in the batch.
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

// take returns what waits, with a line about the lines that were lost behind it, and how many that names.
// Spare is room for what comes meanwhile. A file that takes nothing is not tried with that line alone.
func (w *Writer) take(spare []byte, takes bool) (batch []byte, named uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	named = w.dropped - w.told
	if len(w.waiting) == 0 && (named == 0 || !takes) {
		return nil, 0
	}
	batch, w.waiting = w.waiting, spare
	if named > 0 {
		batch = append(batch, w.notice(named)...)
		w.told = w.dropped
	}
	return batch, named
}

// pass writes a batch, and tells whether the file has taken it. Lines that the file refuses are lost: a
// pipe without a reader, or a full disk, must not fill the memory with what nobody may ever read.
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

// lose counts lines that could not be written. The last of them is the line that names earlier ones, if
// there are any: they are to be named again, and that line itself is no loss.
func (w *Writer) lose(lines []byte, named uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dropped += count(lines)
	if named > 0 {
		w.dropped--
		w.told -= named
	}
}

func count(lines []byte) uint64 { return uint64(bytes.Count(lines, []byte("\n"))) }
