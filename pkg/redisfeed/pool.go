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

// maxSilence is how long a server that is asked may say nothing without its connections being doubted.
const maxSilence = time.Second

// pool has the connections of one purpose, so that no other purpose can starve or delay it.
type pool struct {
	options redis.Options
	asked   sync.WaitGroup // questions that may outlive their asker

	mu      sync.Mutex
	closed  bool
	servers map[string]*server
}

// server is one server with its connections.
type server struct {
	*redis.Client
	address string
	asked   atomic.Pointer[time.Time] // when the first of the questions was put that have no answer; nil for none
	proven  atomic.Pointer[time.Time] // when it was last seen to be the master; nil for never
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

// keep throws the connections to all other servers away.
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

// asks notes that a server is asked something.
func (s *server) asks() {
	if s.asked.Load() == nil {
		now := time.Now()
		s.asked.CompareAndSwap(nil, &now)
	}
}

// heard notes what came of it. When an answer is lost and nothing at all was heard of the server for
// maxSilence, it loses its connections, also those that somebody is waiting on: they may be half-open, and
// would have to time out one by one.
func (p *pool) heard(s *server, err error) {
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

// answered tells whether an error is Redis's own answer.
func answered(err error) bool {
	var answer redis.Error
	return err == nil || errors.As(err, &answer)
}

// lost tells whether an error means that an answer did not arrive.
func lost(err error) bool {
	var network *net.OpError
	return errors.As(err, &network) || isTimeout(err) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, context.Canceled)
}
