package redisfeed

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// maxSilence is how long a server with unanswered commands may be silent before its connections are closed.
const maxSilence = time.Second

// pool holds the connections for one purpose, so that another purpose cannot starve or delay it.
type pool struct {
	options redis.Options
	asked   sync.WaitGroup // commands that may outlive their callers

	mu      sync.Mutex
	closed  bool
	servers map[string]*server
}

// server is one server and its connections.
type server struct {
	*redis.Client
	address string
	asked   atomic.Pointer[time.Time] // when the first unanswered command was sent; nil for none
	proven  atomic.Pointer[time.Time] // when it last proved to be the master; nil for never
}

func newPool(options redis.Options) *pool {
	return &pool{options: options, servers: map[string]*server{}}
}

// at returns the server at an address.
func (p *pool) at(address string) (*server, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, redis.ErrClosed
	}
	s := p.servers[address]
	if s == nil {
		s = &server{Client: redis.NewClient(at(p.options, address)), address: address}
		p.servers[address] = s
	}
	return s, nil
}

// keep closes the connections to all other servers.
func (p *pool) keep(addresses []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for address, s := range p.servers {
		if !slices.Contains(addresses, address) {
			delete(p.servers, address)
			_ = s.Close()
		}
	}
}

// noteSent records that a command is sent to the server.
func (s *server) noteSent() {
	if s.asked.Load() == nil {
		now := time.Now()
		s.asked.CompareAndSwap(nil, &now)
	}
}

// noteResult records the result of a command. When an answer is lost and the server was silent for
// maxSilence, it closes all connections to it, even connections in use. They may be half-open, and would time
// out one by one.
func (p *pool) noteResult(s *server, err error) {
	if !lost(err) {
		s.asked.Store(nil)
		return
	}
	asked := s.asked.Load()
	if asked == nil || time.Since(*asked) < maxSilence {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.servers[s.address] == s {
		delete(p.servers, s.address)
		_ = s.Close()
	}
}

func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, s := range p.servers {
		_ = s.Close()
	}
	clear(p.servers)
}

// answered reports whether an error is an answer from Redis.
func answered(err error) bool {
	var answer redis.Error
	return err == nil || errors.As(err, &answer)
}

// lost reports whether an error means that an answer did not arrive.
func lost(err error) bool {
	var network *net.OpError
	return errors.As(err, &network) || isTimeout(err) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, context.Canceled)
}
