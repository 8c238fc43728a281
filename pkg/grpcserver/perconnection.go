package grpcserver

import (
	"context"
	"net"
	"sync"

	"google.golang.org/grpc/peer"
)

// perConnection bounds how many of something each connection may hold. It is safe for concurrent use.
type perConnection struct {
	most int

	mu sync.Mutex
	// held is keyed by the peer's address, which net makes anew for each connection: a pointer, whatever
	// the address says.
	held map[net.Addr]int
}

func newPerConnection(most int) *perConnection {
	return &perConnection{most: most, held: map[net.Addr]int{}}
}

// take takes one for the connection of a call; false when the connection holds as many as it may. The
// caller releases what it took.
func (p *perConnection) take(ctx context.Context) (release func(), ok bool) {
	var connection net.Addr
	if from, has := peer.FromContext(ctx); has {
		connection = from.Addr
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held[connection] >= p.most {
		return nil, false
	}
	p.held[connection]++
	return func() { p.release(connection) }, true
}

func (p *perConnection) release(connection net.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held[connection]--; p.held[connection] == 0 {
		delete(p.held, connection)
	}
}
