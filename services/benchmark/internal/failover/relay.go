package failover

import (
	"io"
	"net"
	"sync"
)

// relay forwards connections to a server, whose address may change, and can drop all bytes. It is safe for
// concurrent use.
type relay struct {
	listener net.Listener
	done     sync.WaitGroup

	mu        sync.Mutex
	target    string // empty: connections are closed as soon as they are accepted
	dropping  bool
	ended     bool
	open      map[net.Conn]bool // true: some of the connection's bytes were dropped
	forwarded int64             // bytes to the target
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

// setTarget forwards connections that are accepted from this call on to another target.
func (r *relay) setTarget(target string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.target = target
}

// count returns the number of bytes that were forwarded to the target since resetCount.
func (r *relay) count() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.forwarded
}

func (r *relay) resetCount() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forwarded = 0
}

// drop turns the dropping of all bytes on or off. While it is on, new connections are accepted and lead
// nowhere. When it is turned off, connections with dropped bytes are closed: a restarted machine would reset
// them too.
func (r *relay) drop(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dropping = on
	for c, dropped := range r.open {
		if on {
			r.open[c] = true
		} else if dropped {
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

// enter records a connection until leave is called. It returns the connection's target; false when the relay
// has ended.
func (r *relay) enter(c net.Conn) (target string, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open[c] = r.dropping
	return r.target, !r.ended
}

func (r *relay) leave(c net.Conn) {
	_ = c.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.open, c)
}

// dropped tells whether bytes of a connection were dropped. Nothing more is forwarded over such a connection.
func (r *relay) dropped(c net.Conn) bool {
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
	if r.dropped(c) {
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
		r.forward(c, c, server)
		if !r.dropped(c) {
			_ = c.Close()
		}
	}()
	r.forward(c, server, c)
	_ = server.Close()
	<-back
}

// forward copies one direction of a connection until its end. It drops bytes when the connection has dropped
// bytes.
func (r *relay) forward(c net.Conn, to, from net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 && !r.dropped(c) {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
			if from == c {
				r.add(n)
			}
		}
		if err != nil {
			return
		}
	}
}

func (r *relay) add(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forwarded += int64(n)
}
