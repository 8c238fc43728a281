package replica

import (
	"os"
	"sync"
	"syscall"
)

// gate is a way through the network poller and back: whoever passes it goes on only after every goroutine
// that could run, and every socket that had something to read, has had its turn.
//
// runtime.Gosched does less: it puts the caller at the end of the run queue, and the scheduler asks the
// poller only when there is nothing left to run (runtime.findRunnable), or every 10 ms from the monitor
// thread (runtime.sysmon). So a goroutine that works and yields keeps every socket of its processor waiting
// for 10 ms. time.Sleep does lead through the poller, but on an idle processor it takes the millisecond
// that is the unit of epoll_wait, ten times what it interrupts.
//
// A pipe of which the caller waits to be told that it can be read, and into which it writes a byte itself,
// is ready at once, but behind all that was ready before.
type gate struct {
	mu       sync.Mutex
	from, to *os.File
	poll     syscall.RawConn
	// written says that the byte is in the pipe, failed why it is not.
	written bool
	failed  error
	enter   func(uintptr) bool
	buffer  [1]byte
}

// theGate is that of the process, since the processors are the process's.
var theGate = sync.OnceValues(newGate)

func newGate() (*gate, error) {
	from, to, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	g := &gate{from: from, to: to}
	if g.poll, err = from.SyscallConn(); err != nil {
		return nil, err
	}
	g.enter = g.write
	return g, g.pass() // not every system can poll a pipe
}

// pass goes through the poller.
func (g *gate) pass() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.written = false
	if err := g.poll.Read(g.enter); err != nil {
		return err
	}
	if g.failed != nil {
		return g.failed
	}
	_, err := g.from.Read(g.buffer[:])
	return err
}

// write is called until it returns true; between two calls lies the poller.
func (g *gate) write(uintptr) bool {
	if g.written {
		return true
	}
	_, g.failed = g.to.Write(g.buffer[:])
	g.written = true
	return g.failed != nil
}
