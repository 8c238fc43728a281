package grpcserver

import (
	"net"
	"sync"
	"sync/atomic"
)

// counted is a listener that counts the connections that it has accepted and that are not closed. For one
// beyond a bound it has another one closed, or closes it as it comes. Each costs some 50 KB before its
// first call.
type counted struct {
	net.Listener
	most    int64       // 0 is no bound
	spare   func() bool // closes another connection; nil or false: there is none to spare
	open    atomic.Int64
	refused atomic.Uint64
}

// Accept implements net.Listener.
func (c *counted) Accept() (net.Conn, error) {
	accepted, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	for c.most > 0 && c.open.Load() >= c.most && (c.spare == nil || !c.spare()) {
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
