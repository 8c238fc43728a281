package grpcserver

import (
	"context"
	"net"
	"sync"

	"google.golang.org/grpc/peer"
)

// perConnectionLimiter bounds the calls that each connection may have in flight. It is safe for concurrent
// use.
type perConnectionLimiter struct {
	max int // slots of one connection

	mu sync.Mutex
	// used counts slots by the peer's address. The key is the pointer that package net makes for each
	// connection, so two connections from one address count apart.
	used map[net.Addr]int
}

func newPerConnectionLimiter(max int) *perConnectionLimiter {
	return &perConnectionLimiter{max: max, used: map[net.Addr]int{}}
}

// acquire takes a slot of the call's connection; false when all of its slots are in use. The caller
// releases the slot.
func (l *perConnectionLimiter) acquire(ctx context.Context) (release func(), ok bool) {
	var connection net.Addr
	if from, has := peer.FromContext(ctx); has {
		connection = from.Addr
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.used[connection] >= l.max {
		return nil, false
	}
	l.used[connection]++
	return func() { l.release(connection) }, true
}

func (l *perConnectionLimiter) release(connection net.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.used[connection]--; l.used[connection] == 0 {
		delete(l.used, connection)
	}
}
