package load

import (
	"context"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// redialPause is the time between two attempts to connect.
	redialPause = 20 * time.Millisecond
	// dialTimeout bounds an attempt to connect.
	dialTimeout = 5 * time.Second
)

// lane is one connection and its replacements. Calls are queued here. One goroutine reads the answers, and
// connects again when the connection ends.
type lane struct {
	endpoint Endpoint

	sending sync.Mutex // held while frames are written to the connection
	spare   frames     // the buffer that is not out; guarded by sending

	mu      sync.Mutex
	conn    net.Conn // nil without a connection
	http2            // the connection's state
	out     frames   // not written yet
	calls   map[uint32]*Call
	waiting []*Call // calls that the connection does not accept yet, or that it ended before the server began them
}

// connect opens the connection and queues the preface of HTTP/2.
func (l *lane) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := l.endpoint.Dial(ctx)
	if err != nil {
		return err
	}
	secured, info, err := l.endpoint.Credentials.ClientHandshake(ctx, l.endpoint.Address, conn)
	if err != nil {
		_ = conn.Close()
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conn = secured
	l.http2 = newHTTP2(l.endpoint, info.AuthType() != "insecure", &l.out)
	l.preface(&l.out)
	return nil
}

// run reads answers until ctx ends. When a connection ends, its calls in flight fail with its error.
func (l *lane) run(ctx context.Context) {
	for {
		l.mu.Lock()
		l.admit()
		conn := l.conn
		l.mu.Unlock()
		err := errClosed
		if ctx.Err() == nil { // else Close may have run before this connection was there to be closed
			err = l.read(conn)
		}
		_ = conn.Close()
		l.abandon(err, !l.greeted()) // a server that does not speak HTTP/2 will not start to
		for {
			if ctx.Err() != nil {
				l.abandon(errClosed, true)
				return
			}
			if err = l.connect(ctx); err == nil {
				break
			}
			l.abandon(err, true)
			select {
			case <-ctx.Done():
			case <-time.After(redialPause):
			}
		}
	}
}

// greeted tells whether the server has sent its settings.
func (l *lane) greeted() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.maxCalls > 0
}

// abandon fails the calls of a connection that has ended. With all, it also fails the calls that wait for a
// connection, since there will be none soon.
func (l *lane) abandon(err error, all bool) {
	l.mu.Lock()
	l.conn = nil
	var lost []*Call
	for id, call := range l.calls {
		if l.draining && id > l.lastID {
			l.waiting = append(l.waiting, call) // the server has not begun it (RFC 9113, section 6.8)
		} else {
			lost = append(lost, call)
		}
	}
	clear(l.calls)
	if all {
		lost, l.waiting = append(lost, l.waiting...), nil
	}
	l.mu.Unlock()
	for _, call := range lost {
		call.Done(Answer{}, status.Error(codes.Unavailable, err.Error()))
	}
}

// hangUp closes the connection.
func (l *lane) hangUp() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil {
		_ = l.conn.Close()
	}
}

// start queues a call.
func (l *lane) start(call *Call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil || len(l.waiting) > 0 || !l.accepts(call, len(l.calls)) {
		l.waiting = append(l.waiting, call)
		return
	}
	l.send(call)
}

// admit queues waiting calls, as far as the connection accepts them. mu is held.
func (l *lane) admit() {
	for len(l.waiting) > 0 && l.conn != nil && l.accepts(l.waiting[0], len(l.calls)) {
		l.send(l.waiting[0])
		l.waiting = l.waiting[1:]
	}
}

// again queues a call again that the server refused before it began it (RFC 9113, section 8.7).
func (l *lane) again(id uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if call := l.calls[id]; call != nil {
		delete(l.calls, id)
		l.waiting = append(l.waiting, call)
	}
	l.admit()
}

func (l *lane) send(call *Call) {
	l.calls[l.call(call.Question.message)] = call
}

// flush writes the queued frames. After an error the reader notices that the connection has ended.
func (l *lane) flush() {
	l.sending.Lock()
	defer l.sending.Unlock()
	l.mu.Lock()
	out, conn := l.out, l.conn
	l.out = l.spare[:0]
	l.mu.Unlock()
	if len(out) > 0 && conn != nil {
		if _, err := conn.Write(out); err != nil {
			_ = conn.Close()
		}
	}
	l.spare = out
}
