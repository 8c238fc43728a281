package replica

import (
	"context"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/table"
)

// TestPacedWorkLetsSocketsBeRead: on one processor, a socket is read at once beside a goroutine that works
// all the time and is paced. With runtime.Gosched instead, a read takes the 10 ms of the monitor thread.
func TestPacedWorkLetsSocketsBeRead(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	throttle := newThrottle(1)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for work := throttle.pacer(); ctx.Err() == nil; {
			work.step()
		}
	}()
	defer func() { cancel(); <-done }()
	near, far := echo(t)
	defer near.Close()
	defer far.Close()
	best := time.Hour // the best of many, since the machine may have other work
	for range 50 {
		began := time.Now()
		if _, err := near.Write([]byte{1}); err != nil {
			t.Fatal(err)
		}
		if _, err := near.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		best = min(best, time.Since(began))
	}
	if best > 5*time.Millisecond {
		t.Errorf("an answer took %v at best", best)
	}
}

// echo returns a connection whose far end sends back each byte that it gets.
func echo(t *testing.T) (near, far net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if near, err = net.Dial("tcp", listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if far, err = listener.Accept(); err != nil {
		t.Fatal(err)
	}
	go func() {
		b := make([]byte, 1)
		for {
			if _, err := far.Read(b); err != nil {
				return
			}
			if _, err := far.Write(b); err != nil {
				return
			}
		}
	}()
	return near, far
}

// TestPacesOnlyOnOneProcessor, and only loads of partitions that serve.
func TestPacesOnlyOnOneProcessor(t *testing.T) {
	for processors, paced := range map[int]bool{1: true, 2: false, 8: false} {
		throttle := newThrottle(processors)
		if got := throttle.pacer().throttle != nil; got != paced {
			t.Errorf("%d processors: paced %t, want %t", processors, got, paced)
		}
		unserved := &partition{r: &Replica{table: table.New(1), throttle: throttle}}
		work, release, err := unserved.acquireForLoad(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if work.throttle != nil {
			t.Errorf("%d processors: the load of a partition that does not serve is paced", processors)
		}
		release()
		if slots, want := cap(throttle.loads.slots), max(processors-1, 1); slots != want {
			t.Errorf("%d processors: %d loads at once, want %d", processors, slots, want)
		}
	}
}
