package grpcserver

import (
	"container/list"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
)

// connectionEvictor closes the least useful connection of an HTTP server when the server has too many. It
// prefers the connection without a request for the longest time. When every connection has a request, it
// closes the one whose request runs longest. It is safe for concurrent use.
type connectionEvictor struct {
	mu         sync.Mutex
	idle, busy list.List // of net.Conn, the longest in that state first
	entries    map[net.Conn]listEntry
}

// listEntry is the list that a connection is in, and its element there.
type listEntry struct {
	list    *list.List
	element *list.Element
}

func newConnectionEvictor() *connectionEvictor {
	return &connectionEvictor{entries: map[net.Conn]listEntry{}}
}

// track records a connection's new state. It is an http.Server's ConnState.
func (e *connectionEvictor) track(connection net.Conn, state http.ConnState) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if entry, known := e.entries[connection]; known {
		entry.list.Remove(entry.element)
		delete(e.entries, connection)
	}
	var to *list.List
	switch state {
	case http.StateNew, http.StateIdle:
		to = &e.idle
	case http.StateActive:
		to = &e.busy
	default: // closed, or hijacked by a handler
		return
	}
	e.entries[connection] = listEntry{to, to.PushBack(connection)}
}

// evict closes one connection; false when there is none.
func (e *connectionEvictor) evict() bool {
	connection := e.pop()
	if connection == nil {
		return false
	}
	if encrypted, ok := connection.(*tls.Conn); ok {
		connection = encrypted.NetConn() // tls.Conn.Close would wait for a peer that does not read
	}
	_ = connection.Close()
	return true
}

// pop returns the connection to evict, and forgets it; nil when there is none.
func (e *connectionEvictor) pop() net.Conn {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, l := range []*list.List{&e.idle, &e.busy} {
		if first := l.Front(); first != nil {
			connection := l.Remove(first).(net.Conn)
			delete(e.entries, connection)
			return connection
		}
	}
	return nil
}
