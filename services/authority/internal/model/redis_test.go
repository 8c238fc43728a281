// Package model runs authorities and validators against a simulated Redis and network, in fake time
// (testing/synctest): a master with a replica that lags behind it, failovers that lose what the replica
// does not have, masters that were deposed and do not know, lost requests, lost replies and lost hints. One
// seed makes one history.
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

// contents is what a Redis holds of one partition. Slices are only ever appended to, so a copy shares them.
type contents struct {
	head      []byte
	documents map[string][]byte
	log       []record.RawEntry
	audit     []store.AuditRow
}

// data is what a Redis holds.
type data struct {
	meta       []byte
	partitions []contents
	results    map[string][]byte
}

func (d data) clone() data {
	c := data{meta: d.meta, partitions: slices.Clone(d.partitions), results: maps.Clone(d.results)}
	for i := range c.partitions {
		p := &c.partitions[i]
		p.documents, p.log, p.audit = maps.Clone(p.documents), slices.Clip(p.log), slices.Clip(p.audit)
	}
	return c
}

// version is what a replica has from a time on.
type version struct {
	at   time.Time
	data data
}

// server is one master. It stays what it is after it was deposed.
type server struct {
	data data
	// versions are what its replica will have, oldest first.
	versions []version
	// severed is from when on nothing reaches the replica any more; zero for never.
	severed  time.Time
	watchers map[chan published]bool
}

type published struct {
	partition int
	raw       []byte
}

// Redis is a simulated Redis: the master that everybody should talk to, and those that were deposed.
type Redis struct {
	mu sync.Mutex
	// lag returns how long a write takes to the replica.
	lag    func() time.Duration
	master *server
	// wrote is called after each write, with the mutex held.
	wrote func(partition int, head []byte)
	// trimmed are the entries that were trimmed from a log. A failover may bring them back.
	trimmed map[string]bool
}

// NewRedis returns one that holds a new store of some partitions.
func NewRedis(meta []byte, heads [][]byte, lag func() time.Duration) *Redis {
	d := data{meta: meta, results: map[string][]byte{}}
	for _, head := range heads {
		d.partitions = append(d.partitions, contents{head: head, documents: map[string][]byte{}})
	}
	return &Redis{lag: lag, master: newServer(d), trimmed: map[string]bool{}}
}

func newServer(d data) *server {
	return &server{data: d, versions: []version{{data: d.clone()}}, watchers: map[chan published]bool{}}
}

// Failover makes the replica the master. What it does not have is lost. Whoever is connected to the old one
// may go on talking to it.
func (r *Redis) Failover() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.master.sever()
	r.master = newServer(r.master.replicated())
}

// Sever keeps what is written from now on from the replica, until a failover.
func (r *Redis) Sever() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.master.sever()
}

func (s *server) sever() {
	if s.severed.IsZero() {
		s.severed = time.Now()
		s.versions = slices.DeleteFunc(s.versions, func(v version) bool { return v.at.After(s.severed) })
	}
}

// Wipe empties one partition, or nothing but the meta for one that does not exist.
func (r *Redis) Wipe(partition int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if partition < len(r.master.data.partitions) {
		r.master.data.partitions[partition] = contents{documents: map[string][]byte{}}
	}
	r.master.data.meta = nil
	r.master.replicate(r.lag())
}

// Save returns everything that the master holds, for Restore.
func (r *Redis) Save() any {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.master.data.clone()
}

// Restore puts what was saved in place of what the master holds.
func (r *Redis) Restore(saved any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.master = newServer(saved.(data).clone())
}

// Replace puts a partition that was saved in place of the master's, as an operator's restoration does: each
// as one write. Begin is given the head that is there and the one that was saved, and returns the head and
// the entry of the log with which the new epoch begins.
func (r *Redis) Replace(partition int, saved any, begin func(now, saved []byte) (head []byte, start record.RawEntry)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	was := saved.(data).clone()
	next, p := was.partitions[partition], &r.master.data.partitions[partition]
	head, start := begin(p.head, next.head)
	next.head, next.log = head, append(next.log, start)
	*p, r.master.data.results = next, map[string][]byte{}
	r.master.replicate(r.lag())
	r.wrote(partition, head)
}

// Trim shortens a partition's log, but not past the start of the latest epoch: with 20,000 entries that is
// long after everybody has crossed to it.
func (r *Redis) Trim(partition, keep int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := &r.master.data.partitions[partition]
	from, latest := max(len(p.log)-keep, 0), len(p.log)
	for i, entry := range p.log {
		if entry.EpochStart {
			latest = i
		}
	}
	from = min(from, latest)
	for _, entry := range p.log[:from] {
		r.trimmed[string(entry.Data)] = true
	}
	p.log = p.log[from:]
}

// replicated returns what the replica has now.
func (s *server) replicated() data {
	now := time.Now()
	has := s.versions[0].data
	for _, v := range s.versions {
		if v.at.After(now) {
			break
		}
		has = v.data
	}
	return has.clone()
}

func (s *server) replicate(lag time.Duration) time.Time {
	at := time.Now().Add(lag)
	if last := s.versions[len(s.versions)-1].at; at.Before(last) {
		at = last // in order
	}
	if !s.severed.IsZero() {
		return time.Time{}
	}
	s.versions = append(s.versions, version{at, s.data.clone()})
	if len(s.versions) > 200 {
		s.versions = slices.Clone(s.versions[100:])
	}
	return at
}

// Network is what becomes of the messages between one client and Redis.
type Network struct {
	// Latency is asked for each way of each call.
	Latency func() time.Duration
	// Lost says whether a message is lost; the one who waits for it then waits for its timeout.
	Lost func() bool
	// Hint returns what is delivered of a hint.
	Hint func(partition int, raw []byte) [][]byte
}

// Client is one process's way to Redis: all that it does is done on the server that it is connected to. It
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

var (
	_ store.Redis    = (*Client)(nil)
	_ replica.Source = (*Client)(nil)
)

// Connect returns a new client, connected to the master.
func (r *Redis) Connect(net Network) *Client {
	c := &Client{redis: r, net: net}
	c.Reconnect()
	return c
}

// Reconnect connects the client to whoever is master now. Subscriptions to the one before end.
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

// ioTimeout is how long a client waits for an answer.
const ioTimeout = 2 * time.Second

var errTimeout = errors.New("model: no answer")

// call carries out one round trip. The function runs with the simulation's mutex held.
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
func (c *Client) Tail(ctx context.Context, partition int, after uint64, limit int) (head []byte, entries []record.RawEntry, err error) {
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

// write carries out a script, and waits for the replica if it is to.
func (c *Client) write(ctx context.Context, partition int, expected, head []byte, change func(*server, *contents)) (reply store.Reply, err error) {
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
