package replica

import (
	"os"
	"sync"
	"syscall"
)

// poller sends a goroutine through Go's network poller. pass returns only after every runnable goroutine,
// and every socket with data to read, has had its turn.
//
// runtime.Gosched does less: it puts the caller at the end of the run queue, and the scheduler polls the
// network only when that queue is empty (runtime.findRunnable), or every 10 ms from the monitor thread
// (runtime.sysmon). A goroutine that works and yields would make every socket wait for 10 ms. time.Sleep
// does lead through the poller. But on an idle processor it takes 1 ms, the unit of epoll_wait, which is ten
// times a burst.
//
// pass waits until a pipe can be read, into which it writes a byte itself. The pipe is ready at once, but
// behind every socket that was ready before.
type poller struct {
	mu       sync.Mutex
	from, to *os.File
	raw      syscall.RawConn
	// written says that the byte is in the pipe. failed is why it could not be written.
	written bool
	failed  error
	write   func(uintptr) bool
	buffer  [1]byte
}

// processPoller returns the one poller of the process.
var processPoller = sync.OnceValues(newPoller)

func newPoller() (*poller, error) {
	from, to, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p := &poller{from: from, to: to}
	if p.raw, err = from.SyscallConn(); err != nil {
		return nil, err
	}
	p.write = p.writeOnce
	return p, p.pass() // not every system can poll a pipe
}

// pass goes through the network poller once.
func (p *poller) pass() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.written = false
	if err := p.raw.Read(p.write); err != nil {
		return err
	}
	if p.failed != nil {
		return p.failed
	}
	_, err := p.from.Read(p.buffer[:])
	return err
}

// writeOnce writes the byte on its first call. RawConn.Read calls it until it returns true, and goes through
// the network poller between two calls.
func (p *poller) writeOnce(uintptr) bool {
	if p.written {
		return true
	}
	_, p.failed = p.to.Write(p.buffer[:])
	p.written = true
	return p.failed != nil
}
