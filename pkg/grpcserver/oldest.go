package grpcserver

import (
	"container/list"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
)

// oldest knows which connection of an HTTP server can be spared: the one that has been idle for longest, or
// has sent no request for longest; when there is none, the one whose request takes longest. It is safe for
// concurrent use.
type oldest struct {
	mu          sync.Mutex
	quiet, busy list.List // of net.Conn, the oldest first
	places      map[net.Conn]place
}

// place is where a connection stands in a list.
type place struct {
	in *list.List
	at *list.Element
}

func newOldest() *oldest { return &oldest{places: map[net.Conn]place{}} }

// note is an http.Server's ConnState.
func (o *oldest) note(connection net.Conn, state http.ConnState) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if was, has := o.places[connection]; has {
		was.in.Remove(was.at)
		delete(o.places, connection)
	}
	var in *list.List
	switch state {
	case http.StateNew, http.StateIdle:
		in = &o.quiet
	case http.StateActive:
		in = &o.busy
	default: // it is closed, or somebody else's
		return
	}
	o.places[connection] = place{in, in.PushBack(connection)}
}

// close closes the connection that can be spared; false when there is none.
func (o *oldest) close() bool {
	connection := o.take()
	if connection == nil {
		return false
	}
	if encrypted, ok := connection.(*tls.Conn); ok {
		connection = encrypted.NetConn() // tls.Conn.Close would wait for a peer that does not read
	}
	_ = connection.Close()
	return true
}

func (o *oldest) take() net.Conn {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, in := range []*list.List{&o.quiet, &o.busy} {
		if first := in.Front(); first != nil {
			connection := in.Remove(first).(net.Conn)
			delete(o.places, connection)
			return connection
		}
	}
	return nil
}
