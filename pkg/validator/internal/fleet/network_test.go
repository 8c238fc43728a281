package fleet

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc/test/bufconn"
)

// network is the network between a validator and its authority, in the fake time of a bubble.
type network struct {
	*bufconn.Listener
	mu sync.Mutex
	// refuse makes new connections fail. hole drops all that is sent.
	refuse, hole bool
	open         map[*connection]bool
	// first is the first byte that each connection has sent.
	first []byte
}

func newNetwork() *network {
	return &network{Listener: bufconn.Listen(1 << 20), open: map[*connection]bool{}}
}

// inBubble runs a test in fake time, with an authority behind a network.
func inBubble(t *testing.T, test func(t *testing.T, authority *fakeAuthority, between *network)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		between := newNetwork()
		authority := serveAuthority(t, between)
		authority.dial = between.dial
		test(t, authority, between)
	})
}

func (n *network) set(change func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change()
}

// written returns the first byte that each connection has sent.
func (n *network) written() []byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.first
}

// cut closes every connection.
func (n *network) cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.open {
		_ = c.Conn.Close()
	}
	clear(n.open)
}

func (n *network) dial(ctx context.Context, _ string) (net.Conn, error) {
	n.mu.Lock()
	refuse := n.refuse
	n.mu.Unlock()
	if refuse {
		return nil, errors.New("connection refused")
	}
	opened, err := n.Listener.DialContext(ctx)
	if err != nil {
		return nil, err
	}
	c := &connection{Conn: opened, on: n, closed: make(chan struct{})}
	c.end = sync.OnceFunc(func() { close(c.closed) })
	n.set(func() { n.open[c] = true })
	return c, nil
}

// connection is a connection whose other end may vanish silently. It then never works again.
type connection struct {
	net.Conn
	on *network
	// dead and wrote are guarded by the network's mutex.
	dead, wrote bool
	closed      chan struct{}
	end         func()
}

func (c *connection) vanished() bool {
	c.on.mu.Lock()
	defer c.on.mu.Unlock()
	c.dead = c.dead || c.on.hole
	return c.dead
}

func (c *connection) Write(b []byte) (int, error) {
	c.on.set(func() {
		if !c.wrote && len(b) > 0 {
			c.wrote, c.on.first = true, append(c.on.first, b[0])
		}
	})
	if c.vanished() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

func (c *connection) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.vanished() {
		<-c.closed
		return 0, net.ErrClosed
	}
	return n, err
}

func (c *connection) Close() error {
	c.end()
	return c.Conn.Close()
}
