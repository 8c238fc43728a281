package grpcserver

import (
	"net"
	"sync"
	"sync/atomic"
)

// counted is a listener that counts the connections that it has accepted and that are not closed, and closes those beyond a
// bound as they come. Each costs some 50 KB before its first call.
type counted struct {
	net.Listener
	most    int64 // 0 is no bound
	open    atomic.Int64
	refused atomic.Uint64
}

// Accept implements net.Listener.
func (c *counted) Accept() (net.Conn, error) {
	accepted, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	for c.most > 0 && c.open.Load() >= c.most {
		c.refused.Add(1)
		_ = accepted.Close()
		if accepted, err = c.Listener.Accept(); err != nil {
			return nil, err
		}
	}
	c.open.Add(1)
	left := sync.OnceFunc(func() { c.open.Add(-1) })
	if tcp, ok := accepted.(*net.TCPConn); ok {
		return &countedTCP{tcp, left}, nil // with all that grpc-go makes use of
	}
	return &countedConn{accepted, left}, nil
}

type countedTCP struct {
	*net.TCPConn
	left func()
}

// Close implements net.Conn.
func (c *countedTCP) Close() error {
	defer c.left()
	return c.TCPConn.Close()
}

type countedConn struct {
	net.Conn
	left func()
}

// Close implements net.Conn.
func (c *countedConn) Close() error {
	defer c.left()
	return c.Conn.Close()
}
