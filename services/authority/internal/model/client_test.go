package model

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/services/store"
)

// Network decides the fate of the messages between one client and Redis.
type Network struct {
	// Latency returns the delay of each request and each reply.
	Latency func() time.Duration
	// Lost tells whether a message is lost. The client then waits until its timeout.
	Lost func() bool
	// Hint returns a hint as it is delivered.
	Hint func(partition int, raw []byte) [][]byte
}

// Client is one process's connection to Redis. All its calls go to the server that it is connected to. It
// implements store.Redis and replica.Source.
type Client struct {
	redis *Redis
	net   Network
	// Quorum makes commits wait for the replica.
	Quorum bool

	mu     sync.Mutex
	server *server
	gone   chan struct{}
}

// Connect returns a new client, connected to the master.
func (r *Redis) Connect(net Network) *Client {
	c := &Client{redis: r, net: net}
	c.Reconnect()
	return c
}

// Reconnect connects the client to the present master. Its subscriptions end.
func (c *Client) Reconnect() {
	c.redis.mu.Lock()
	master := c.redis.master
	c.redis.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.server == master {
		return
	}
	if c.gone != nil {
		close(c.gone)
	}
	c.server, c.gone = master, make(chan struct{})
}

func (c *Client) connected() (*server, chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.server, c.gone
}

// call makes one round trip. The function runs with the simulation's mutex held.
func (c *Client) call(ctx context.Context, f func(*server) error) error {
	s, _ := c.connected()
	return c.callOn(ctx, s, f)
}

func (c *Client) callOn(ctx context.Context, s *server, f func(*server) error) error {
	if !sleep(ctx, c.net.Latency()) {
		return ctx.Err()
	}
	if c.net.Lost() {
		sleep(ctx, ioTimeout)
		return errTimeout
	}
	c.redis.mu.Lock()
	err := f(s)
	c.redis.mu.Unlock()
	if !sleep(ctx, c.net.Latency()) {
		return ctx.Err()
	}
	if c.net.Lost() {
		sleep(ctx, ioTimeout)
		return errTimeout
	}
	return err
}

// sleep returns false when ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// Look implements store.Redis.
func (c *Client) Look(ctx context.Context, partition int, appID, requestKey string) (found store.Look, err error) {
	err = c.call(ctx, func(s *server) error {
		p := s.data.partitions[partition]
		found = store.Look{Head: p.head, Document: p.documents[appID], Result: s.data.results[requestKey]}
		return nil
	})
	if err != nil {
		err = fmt.Errorf("%w: %w", store.ErrNotRun, err)
	}
	return found, err
}

// Heads implements replica.Source.
func (c *Client) Heads(ctx context.Context) (heads []replica.HeadRead, err error) {
	err = c.call(ctx, func(s *server) error {
		for _, p := range s.data.partitions {
			heads = append(heads, replica.HeadRead{Raw: p.head})
		}
		return nil
	})
	return heads, err
}

// Tail implements store.Redis and replica.Source.
func (c *Client) Tail(ctx context.Context, partition int, after uint64, limit int,
) (head []byte, entries []record.RawEntry, err error) {
	err = c.call(ctx, func(s *server) error {
		p := s.data.partitions[partition]
		head = p.head
		for _, entry := range p.log {
			if entry.Revision > after && len(entries) < limit {
				entries = append(entries, entry)
			}
		}
		return nil
	})
	return head, entries, err
}

// Documents implements store.Redis and replica.Source.
func (c *Client) Documents(ctx context.Context, partition int, each func(appID string, raw []byte)) error {
	var apps []string
	err := c.call(ctx, func(s *server) error {
		apps = slices.Sorted(maps.Keys(s.data.partitions[partition].documents))
		return nil
	})
	for _, appID := range apps {
		if err != nil {
			break
		}
		var raw []byte
		err = c.call(ctx, func(s *server) error {
			raw = s.data.partitions[partition].documents[appID]
			return nil
		})
		if err == nil && raw != nil {
			each(appID, raw)
		}
	}
	return err
}

// Keep implements store.Redis.
func (c *Client) Keep(ctx context.Context, key string, result []byte) error {
	return c.call(ctx, func(s *server) error {
		if s.data.results[key] == nil {
			s.data.results[key] = result
			s.replicate(c.redis.lag())
		}
		return nil
	})
}

// PutMeta implements store.Redis.
func (c *Client) PutMeta(ctx context.Context, raw []byte) error {
	return c.call(ctx, func(s *server) error {
		if s.data.meta == nil {
			s.data.meta = raw
			s.replicate(c.redis.lag())
		}
		return nil
	})
}

// Commit implements store.Redis.
func (c *Client) Commit(ctx context.Context, commit *store.Commit) (store.Reply, error) {
	return c.write(ctx, commit.Partition, commit.Expected, commit.Head, func(s *server, p *contents) {
		p.log = append(p.log, record.RawEntry{Revision: commit.Cursor.Revision, Data: commit.Link})
		p.audit = append(p.audit, commit.Audit)
		p.documents[commit.AppID] = commit.Document
		if commit.RequestKey != "" {
			s.data.results[commit.RequestKey] = commit.Result
		}
		for w := range s.watchers {
			select {
			case w <- published{commit.Partition, commit.Link}:
			default: // as Redis drops a subscriber that does not read
			}
		}
	})
}

// Begin implements store.Redis.
func (c *Client) Begin(ctx context.Context, b *store.Beginning) (store.Reply, error) {
	return c.write(ctx, b.Partition, b.Expected, b.Head, func(_ *server, p *contents) {
		p.log = append(p.log, b.Entries...)
		p.audit = append(p.audit, b.Audit...)
		for _, d := range b.Documents {
			p.documents[d.AppID] = d.Data
		}
	})
}

// write runs a script, and waits for the replica if it must.
func (c *Client) write(ctx context.Context, partition int, expected, head []byte, change func(*server, *contents),
) (reply store.Reply, err error) {
	var replicated time.Time
	asked, _ := c.connected()
	err = c.callOn(ctx, asked, func(s *server) error {
		p := &s.data.partitions[partition]
		if !bytes.Equal(p.head, expected) {
			reply.Answer = store.Conflict
			return nil
		}
		change(s, p)
		p.head = head
		reply.Answer = store.Made
		replicated = s.replicate(c.redis.lag())
		if c.redis.wrote != nil {
			c.redis.wrote(partition, head)
		}
		return nil
	})
	if err != nil || reply.Answer != store.Made || !c.Quorum {
		return reply, err
	}
	wait := time.Until(replicated)
	if replicated.IsZero() || wait > time.Second {
		sleep(ctx, time.Second)
		return reply, nil
	}
	sleep(ctx, wait)
	c.redis.mu.Lock()
	defer c.redis.mu.Unlock()
	if asked.severed.IsZero() || asked.severed.After(replicated) {
		reply.Acknowledged = 1
	}
	return reply, nil
}

// Watch implements replica.Source.
func (c *Client) Watch(ctx context.Context, hint func(partition int, raw []byte)) error {
	s, gone := c.connected()
	if !sleep(ctx, c.net.Latency()) {
		return ctx.Err()
	}
	feed := make(chan published, 1000)
	c.redis.mu.Lock()
	s.watchers[feed] = true
	c.redis.mu.Unlock()
	defer func() {
		c.redis.mu.Lock()
		delete(s.watchers, feed)
		c.redis.mu.Unlock()
	}()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-gone:
			return errors.New("model: the subscription has ended")
		case p := <-feed:
			if !sleep(ctx, c.net.Latency()) {
				return ctx.Err()
			}
			for _, raw := range c.net.Hint(p.partition, p.raw) {
				hint(p.partition, raw)
			}
		}
	}
}
