package grpcserver

import (
	"net"
	"sync"
	"sync/atomic"
)

// limitedListener is a listener that counts its open connections and bounds them. A connection above the
// bound makes it evict another one, or is closed on arrival. An open connection costs about 50 KB before
// its first call. It is safe for concurrent use.
type limitedListener struct {
	net.Listener
	max      int64       // 0 means no bound
	evict    func() bool // closes another connection and returns true; nil or false: none can be closed
	open     atomic.Int64
	rejected atomic.Uint64
}

// Accept implements net.Listener.
func (l *limitedListener) Accept() (net.Conn, error) {
	accepted, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	for l.max > 0 && l.open.Load() >= l.max && (l.evict == nil || !l.evict()) {
		l.rejected.Add(1)
		_ = accepted.Close()
		if accepted, err = l.Listener.Accept(); err != nil {
			return nil, err
		}
	}
	l.open.Add(1)
	closed := sync.OnceFunc(func() { l.open.Add(-1) })
	if tcp, ok := accepted.(*net.TCPConn); ok {
		return &countedTCP{tcp, closed}, nil // keeps the methods of TCPConn that grpc-go uses
	}
	return &countedConn{accepted, closed}, nil
}

type countedTCP struct {
	*net.TCPConn
	closed func()
}

// Close implements net.Conn.
func (c *countedTCP) Close() error {
	defer c.closed()
	return c.TCPConn.Close()
}

type countedConn struct {
	net.Conn
	closed func()
}

// Close implements net.Conn.
func (c *countedConn) Close() error {
	defer c.closed()
	return c.Conn.Close()
}
