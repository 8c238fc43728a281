package replica

import (
	"context"
	"net"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// TestGateLeadsThroughThePoller: beside a goroutine that works all the time and passes the gate, a socket
// is read at once, on one processor. With runtime.Gosched in its place, it takes the 10 ms of the monitor
// thread.
func TestGateLeadsThroughThePoller(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	p := newPace(1)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for work := p.stint(true); ctx.Err() == nil; {
			work.step()
		}
	}()
	defer func() { cancel(); <-done }()
	near, far := echo(t)
	defer near.Close()
	defer far.Close()
	best := time.Hour // of many, since the machine may have other work
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

// echo returns a connection of which the far end sends back what it gets.
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

// TestPaceOnlyWhereProcessorsAreShort and where callers are.
func TestPaceOnlyWhereProcessorsAreShort(t *testing.T) {
	for processors, bursts := range map[int]bool{1: true, 2: false, 8: false} {
		p := newPace(processors)
		if paced := p.stint(true).pace != nil; paced != bursts {
			t.Errorf("%d processors: paced %v, want %v", processors, paced, bursts)
		}
		if p.stint(false).pace != nil {
			t.Errorf("%d processors: paced beside nobody", processors)
		}
		if places, want := cap(p.loads.places), max(processors-1, 1); places != want {
			t.Errorf("%d processors: %d loads at once, want %d", processors, places, want)
		}
	}
}

// TestPlacesAreLeft, and waiting for one ends with the context, or when whoever has it does nothing; not
// while that works.
func TestPlacesAreLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPace(2)
		work, leave, err := p.enter(t.Context(), p.loads)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*patience)
		defer cancel()
		go func() {
			for ctx.Err() == nil {
				work.step()
				time.Sleep(patience / 2)
			}
		}()
		if _, _, err := p.enter(ctx, p.loads); err == nil {
			t.Error("two have the same place")
		}
		began := time.Now()
		later, cancelLater := context.WithTimeout(t.Context(), 10*patience)
		defer cancelLater()
		_, leaveNone, err := p.enter(later, p.loads)
		if waited := time.Since(began); err != nil || waited < patience || waited > 3*patience {
			t.Fatalf("%v after %v with one that does nothing", err, waited)
		}
		leaveNone()
		leave()
		began = time.Now()
		if _, _, err := p.enter(t.Context(), p.loads); err != nil || time.Since(began) > 0 {
			t.Errorf("%v after %v for a place that is free", err, time.Since(began))
		}
	})
}
