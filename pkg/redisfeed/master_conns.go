package redisfeed

import (
	"context"
	"net"
	"sync"
	"syscall"

	"github.com/redis/go-redis/v9"
)

// masterConns are the connections to the master that Sentinel names. Connections to an earlier master are
// closed, since a deposed master may not know yet that it was deposed.
type masterConns struct {
	options *redis.Options

	mu     sync.Mutex
	master string
	open   map[*masterConn]struct{}
}

// masterConn is one connection.
type masterConn struct {
	net.Conn
	address string
	conns   *masterConns
}

// plainConn is a masterConn whose socket go-redis can check while it is idle, to see whether the server
// closed it.
type plainConn struct {
	*masterConn
	syscall.Conn
}

func (l plainConn) SyscallConn() (syscall.RawConn, error) { return l.Conn.SyscallConn() }

// newMasterConns makes a client's connections lead to the current master, whatever address the client dials.
func newMasterConns(t *topology, options *redis.Options) *masterConns {
	l := &masterConns{options: options, open: map[*masterConn]struct{}{}}
	dial := redis.NewDialer(options)
	options.Addr = "master"
	options.Dialer = func(ctx context.Context, _, _ string) (net.Conn, error) {
		layout, err := t.layout(ctx)
		if err != nil {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: err}
		}
		connection, err := dial(ctx, "tcp", layout.masters[0])
		if err != nil {
			t.suspect()
			return nil, err
		}
		return l.add(connection, layout.masters[0])
	}
	return l
}

// add registers a connection, or closes it when the master has changed meanwhile.
func (l *masterConns) add(connection net.Conn, address string) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.master != "" && l.master != address {
		_ = connection.Close()
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errOtherMaster}
	}
	added := &masterConn{connection, address, l}
	l.open[added] = struct{}{}
	if inner, ok := connection.(syscall.Conn); ok {
		return plainConn{added, inner}, nil
	}
	return added, nil
}

// follow closes the connections to every server that is not the master.
func (l *masterConns) follow(now *layout) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.master = now.masters[0]
	for open := range l.open {
		if open.address != l.master {
			delete(l.open, open)
			_ = open.Conn.Close()
		}
	}
}

// Close implements net.Conn.
func (l *masterConn) Close() error {
	l.conns.mu.Lock()
	delete(l.conns.open, l)
	l.conns.mu.Unlock()
	return l.Conn.Close()
}
