package redistest

import (
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/testkit/testport"
)

// Proxy forwards TCP connections to a server, and disturbs them on demand. It keeps the order of what it
// holds back, like a network: after Restore it arrives late, after Cut it never does. Its methods are safe
// for concurrent use.
type Proxy struct {
	listener net.Listener
	target   string
	done     sync.WaitGroup

	mu          sync.Mutex
	closed      bool
	requests    rule
	replies     rule
	refusing    bool
	changed     chan struct{} // closed when one of the rules changes
	connections map[*link]struct{}
	accepted    int
	replied     int
}

// rule is what happens to one direction.
type rule struct {
	hold  bool
	delay time.Duration
}

// link is one connection of a client, with the connection to the server.
type link struct {
	client, server net.Conn
	cut            chan struct{}
	once           sync.Once
	halfOpen       bool // nothing passes for the rest of its life
}

// NewProxy starts a proxy in front of an address. It ends with the test.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(testport.Free(t))))
	if err != nil {
		t.Fatalf("redistest: %v", err)
	}
	p := &Proxy{listener: listener, target: target, changed: make(chan struct{}), connections: map[*link]struct{}{}}
	p.done.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

// Address returns the address that clients connect to.
func (p *Proxy) Address() string { return p.listener.Addr().String() }

// URL returns the URL of the server behind the proxy, for its default user.
func (p *Proxy) URL() string { return URL(p.Address(), "", "") }

// Cut closes every connection. New ones are accepted.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.connections {
		l.close()
	}
}

// Refuse closes every connection, and every new one at once, until Restore.
func (p *Proxy) Refuse() {
	p.set(func() { p.refusing = true })
	p.Cut()
}

// BlackHole holds back everything in both directions until Restore. Connections stay open, and new ones are
// accepted.
func (p *Proxy) BlackHole() { p.set(func() { p.requests.hold, p.replies.hold = true, true }) }

// SwallowReplies holds back what the server sends, until Restore: commands take effect, but clients get no
// replies.
func (p *Proxy) SwallowReplies() { p.set(func() { p.replies.hold = true }) }

// HalfOpen makes the existing connections half-open until Restore: nothing passes, and neither side notices.
// New connections work normally.
func (p *Proxy) HalfOpen() {
	p.set(func() {
		for l := range p.connections {
			l.halfOpen = true
		}
	})
}

// SwallowRequests holds back what clients send, until Restore: they wait for replies to commands that the
// server never got.
func (p *Proxy) SwallowRequests() { p.set(func() { p.requests.hold = true }) }

// Delay makes everything that the server sends from this moment on arrive later.
func (p *Proxy) Delay(d time.Duration) { p.set(func() { p.replies.delay = d }) }

// Restore ends all disturbances. What was held back arrives.
func (p *Proxy) Restore() {
	p.set(func() {
		p.requests, p.replies, p.refusing = rule{}, rule{}, false
		for l := range p.connections {
			l.halfOpen = false
		}
	})
}

// Connections returns the number of open connections.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.connections)
}

// Accepted returns the number of connections that were ever forwarded.
func (p *Proxy) Accepted() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.accepted
}

// Replied returns how many pieces of the server's output were forwarded, over all connections. A reply is one
// piece or more.
func (p *Proxy) Replied() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.replied
}

func (p *Proxy) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *Proxy) close() {
	_ = p.listener.Close()
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.Cut()
	p.done.Wait()
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.done.Go(func() { p.serve(client) })
	}
}

func (p *Proxy) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	l := &link{client: client, server: server, cut: make(chan struct{})}
	defer l.close()
	if !p.enter(l) {
		return
	}
	defer p.leave(l)
	var pumps sync.WaitGroup
	pumps.Go(func() { p.pump(l, server, client, &p.requests) })
	pumps.Go(func() { p.pump(l, client, server, &p.replies) })
	pumps.Wait()
}

func (p *Proxy) enter(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.refusing {
		return false
	}
	p.connections[l] = struct{}{}
	p.accepted++
	return true
}

func (p *Proxy) leave(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.connections, l)
}

// pump forwards one direction, by its rule.
func (p *Proxy) pump(l *link, to, from net.Conn, r *rule) {
	defer l.close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 && (!p.admit(l, r) || !writeAll(to, buffer[:n])) {
			return
		}
		if n > 0 && r == &p.replies {
			p.mu.Lock()
			p.replied++
			p.mu.Unlock()
		}
		if err != nil {
			return
		}
	}
}

func writeAll(to net.Conn, data []byte) bool {
	_, err := to.Write(data)
	return err == nil
}

// admit waits as the rule demands. It returns false when the connection ends meanwhile.
func (p *Proxy) admit(l *link, r *rule) bool {
	p.mu.Lock()
	delay := r.delay
	p.mu.Unlock()
	if delay > 0 {
		select {
		case <-l.cut:
			return false
		case <-time.After(delay):
		}
	}
	for {
		p.mu.Lock()
		hold, changed := r.hold || l.halfOpen, p.changed
		p.mu.Unlock()
		if !hold {
			return true
		}
		select {
		case <-l.cut:
			return false
		case <-changed:
		}
	}
}

func (l *link) close() {
	l.once.Do(func() {
		close(l.cut)
		_ = l.client.Close()
		_ = l.server.Close()
	})
}
