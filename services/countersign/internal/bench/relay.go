package bench

import (
	"io"
	"net"
	"sync"
)

// relay passes connections on to a server, which may be another one the next time, and swallows what they
// carry when it is told to. It is safe for concurrent use.
type relay struct {
	listener net.Listener
	done     sync.WaitGroup

	mu         sync.Mutex
	target     string // empty: nobody, connections are closed as they come
	swallowing bool
	ended      bool
	open       map[net.Conn]bool // true: something of it was swallowed
	passed     int64             // bytes that went to the target
}

func newRelay(target string) (*relay, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &relay{listener: listener, target: target, open: map[net.Conn]bool{}}
	r.done.Go(r.accept)
	return r, nil
}

func (r *relay) address() string { return r.listener.Addr().String() }

// to passes connections that come from now on to a target.
func (r *relay) to(target string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.target = target
}

// taken returns how many bytes went to the target since forget.
func (r *relay) taken() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.passed
}

func (r *relay) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.passed = 0
}

// swallow makes every byte vanish from now on, and tells nobody; new connections are taken, and lead
// nowhere. When that is over, connections of which something has vanished are reset, as by a machine that
// knows nothing of them.
func (r *relay) swallow(yes bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.swallowing = yes
	for c, lost := range r.open {
		if yes {
			r.open[c] = true
		} else if lost {
			_ = c.Close()
		}
	}
}

// close ends all connections.
func (r *relay) close() {
	_ = r.listener.Close()
	r.mu.Lock()
	r.ended = true
	for c := range r.open {
		_ = c.Close()
	}
	r.mu.Unlock()
	r.done.Wait()
}

func (r *relay) accept() {
	for {
		c, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.done.Go(func() { r.serve(c) })
	}
}

// enter notes a connection until leave is called. It returns where to; false when the relay has ended.
func (r *relay) enter(c net.Conn) (target string, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open[c] = r.swallowing
	return r.target, !r.ended
}

func (r *relay) leave(c net.Conn) {
	_ = c.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.open, c)
}

func (r *relay) lost(c net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.open[c]
}

func (r *relay) serve(c net.Conn) {
	defer r.leave(c)
	target, ok := r.enter(c)
	if !ok || target == "" {
		return
	}
	if r.lost(c) {
		_, _ = io.Copy(io.Discard, c)
		return
	}
	server, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer server.Close()
	back := make(chan struct{})
	go func() {
		defer close(back)
		r.pass(c, c, server)
		if !r.lost(c) {
			_ = c.Close()
		}
	}()
	r.pass(c, server, c)
	_ = server.Close()
	<-back
}

// pass copies what comes over a connection, until it ends; what comes when the connection is lost is dropped.
func (r *relay) pass(c net.Conn, to, from net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 && !r.lost(c) {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
			if from == c {
				r.count(n)
			}
		}
		if err != nil {
			return
		}
	}
}

func (r *relay) count(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.passed += int64(n)
}
