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
	// redialPause is between two tries to connect.
	redialPause = 20 * time.Millisecond
	// dialTimeout bounds a try.
	dialTimeout = 5 * time.Second
)

// lane is the place of one connection: calls line up here, and one goroutine reads the answers, and
// connects again when the connection ends.
type lane struct {
	endpoint Endpoint

	sending sync.Mutex // held while something is written
	spare   []byte     // a buffer for what comes next; with sending

	mu      sync.Mutex
	conn    net.Conn // nil while there is none
	http2            // what is known of it
	out     []byte   // frames that are lined up
	calls   map[uint32]*Call
	waiting []*Call // those that the connection does not take yet, or that it ended before
}

// connect opens the connection and lines up how HTTP/2 begins.
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
	l.http2 = newHTTP2(l.endpoint, info.AuthType() != "insecure")
	l.out = appendPreface(l.out[:0])
	return nil
}

// run reads answers until ctx ends. Calls under way on a connection that ends get its error.
func (l *lane) run(ctx context.Context) {
	for {
		l.mu.Lock()
		l.admit()
		conn := l.conn
		l.mu.Unlock()
		err := errClosed
		if ctx.Err() == nil { // else Close may have come too early to end this connection
			err = l.read(conn)
		}
		_ = conn.Close()
		l.abandon(err, !l.greeted()) // who does not speak HTTP/2 is not going to
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

// greeted tells whether the server has begun to speak HTTP/2.
func (l *lane) greeted() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.maxCalls > 0
}

// abandon ends the calls of a connection that is gone; also those that wait for one, when there is not
// going to be one soon.
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

// hangUp ends the connection.
func (l *lane) hangUp() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil {
		_ = l.conn.Close()
	}
}

// start lines a call up.
func (l *lane) start(call *Call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil || len(l.waiting) > 0 || !l.takes(call, len(l.calls)) {
		l.waiting = append(l.waiting, call)
		return
	}
	l.send(call)
}

// admit lines up what waits, as far as the connection takes it. mu is held.
func (l *lane) admit() {
	for len(l.waiting) > 0 && l.conn != nil && l.takes(l.waiting[0], len(l.calls)) {
		l.send(l.waiting[0])
		l.waiting = l.waiting[1:]
	}
}

// again lines a call up once more that the server has refused before it did anything (RFC 9113, section 8.7).
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
	var id uint32
	l.out, id = l.appendCall(l.out, call.Question.message)
	l.calls[id] = call
}

// flush writes what is lined up. An error shows to the reader.
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
