// Package redisfeed connects to the Redis of a store: one server, a Sentinel group or a Cluster. Its Feed is
// the replica's Source: it reads heads, logs and documents, and subscribes to hints. A Feed writes nothing,
// and uses only commands that a read-only account may use. This package is not part of the public API and may
// change in any release.
package redisfeed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/record"
)

// Each call returns its errors. go-redis would also print them to the standard error in a format of its own.
func init() { logging.Disable() }

// ErrNotInitialised says that the Redis holds no Countersign store.
var ErrNotInitialised = errors.New("the store is not initialised (countersign store init)")

const (
	// requestBuffer is the size of a connection's write buffer: room for the requests that a reader sends at
	// once.
	requestBuffer = 4 << 10
	// maxScans bounds the scans of documents that run at once. maxConnections bounds the connections of one
	// pool to one server; it leaves room for other reads beside the scans.
	maxScans       = 8
	maxConnections = 32
)

// Options control how a store is read.
type Options struct {
	// WriteQuorum is how many replicas must be in contact with a master for a read to count; 0 asks for none.
	WriteQuorum int
}

// Client holds the connections to the Redis of a store. It is safe for concurrent use.
//
// The embedded client is for commands that need no particular connection. It finds the master, follows a slot
// that has moved, and never repeats a command that may have been run.
type Client struct {
	redis.UniversalClient
	options  Options
	target   *target
	topology *topology
	// locating asks where the masters are, polling reads heads, reading serves longer reads, writing serves
	// OnMaster. Each subscription has a connection of its own.
	locating, polling, reading, writing *pool
	scans                               chan struct{} // has an element for each running scan
}

// Open makes a client, which connects at its first use. The URL names a single server, sentinels or a cluster
// (docs/deployment.md: Redis).
func Open(url string, options Options) (*Client, error) {
	target, err := parseURL(url)
	if err != nil {
		return nil, err
	}
	if options.WriteQuorum < 0 {
		return nil, errors.New("want a write quorum of 0 or more")
	}
	c := &Client{options: options, target: target, topology: newTopology(), scans: make(chan struct{}, maxScans)}
	reader := target.server
	reader.WriteBufferSize, reader.PoolSize = requestBuffer, maxConnections
	locator := reader
	if target.kind == underSentinel {
		locator = target.sentinel
		locator.ReadBufferSize, locator.WriteBufferSize = requestBuffer, requestBuffer
	}
	c.locating, c.polling, c.reading, c.writing = newPool(locator), newPool(reader), newPool(reader), newPool(target.server)
	switch target.kind {
	case underSentinel:
		c.topology.age, c.topology.locate = sentinelAge, askSentinels(c.locating, target.seeds, target.masterName)
	case inCluster:
		c.topology.age, c.topology.locate = clusterAge, askCluster(c.locating, target.seeds)
	default:
		c.topology.current = oneMaster(target.server.Addr)
	}
	c.connect()
	return c, nil
}

// connect makes the embedded client.
func (c *Client) connect() {
	follow := func(*layout) {}
	switch c.target.kind {
	case underSentinel:
		conns := newMasterConns(c.topology, at(c.target.server, ""))
		c.UniversalClient = redis.NewClient(conns.options)
		follow = conns.follow
	case inCluster:
		client := newClusterClient(c)
		c.UniversalClient = client
		follow = func(*layout) { client.ReloadState(context.Background()) }
	default:
		c.UniversalClient = redis.NewClient(at(c.target.server, ""))
	}
	c.topology.changed = func(l *layout) {
		for _, p := range []*pool{c.polling, c.reading, c.writing} {
			p.keep(l.servers)
		}
		follow(l)
	}
}

// Close ends all connections, and every call that waits for one.
func (c *Client) Close() error {
	c.topology.stop()
	for _, p := range []*pool{c.locating, c.polling, c.reading, c.writing} {
		p.close()
	}
	err := c.UniversalClient.Close()
	c.topology.done.Wait()
	c.locating.asked.Wait()
	return err
}

// master returns the server that is the master of a slot.
func (c *Client) master(ctx context.Context, p *pool, slot int) (*server, error) {
	layout, err := c.topology.layout(ctx)
	if err != nil {
		return nil, err
	}
	address, err := layout.master(slot)
	if err != nil {
		c.topology.suspect()
		return nil, err
	}
	return p.at(address)
}

// OnMaster calls f with one connection to the master of a key, and returns f's error. It repeats nothing, and
// learns from the error where the master may be. When NotRun(err) holds, f's last command was not run, and
// the caller may call OnMaster again.
//
// While a cluster moves the key's slot, Redis refuses a command on several keys with TRYAGAIN when only some
// of them are there or exist. It refuses it with ASK when none of them is there. Both last until the slot has
// moved: the new master refuses the command for the same reason.
func (c *Client) OnMaster(ctx context.Context, key string, f func(*redis.Conn) error) error {
	slot := slotOf(key)
	s, err := c.master(ctx, c.writing, slot)
	if err != nil {
		return fmt.Errorf("%w: %w", errNotReached, err)
	}
	connection := s.Conn()
	defer connection.Close()
	s.noteSent()
	err = f(connection)
	c.writing.noteResult(s, err)
	c.topology.learn(s.address, err)
	return err
}

// errNotReached says that no master was known to send to.
var errNotReached = errors.New("no master is known")

// notRun are the errors with which Redis refuses a command before it runs it, for a temporary reason.
var notRun = []string{"MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "READONLY", "BUSY"}

// NotRun reports whether an error means that a command was not run, for a temporary reason, so that it may be
// sent again. For a pipeline or a script with writes this holds only for the command that failed.
func NotRun(err error) bool {
	var network *net.OpError
	if errors.Is(err, errNotReached) || errors.Is(err, redis.ErrPoolTimeout) ||
		errors.As(err, &network) && network.Op == "dial" {
		return true
	}
	var answer redis.Error
	if !errors.As(err, &answer) {
		return false
	}
	kind, _, _ := strings.Cut(answer.Error(), " ")
	return slices.Contains(notRun, kind)
}

// Meta reads which store the Redis holds. It returns ErrNotInitialised when it holds none.
func (c *Client) Meta(ctx context.Context, ring *keyring.Ring) (record.Meta, error) {
	raw, err := c.Get(ctx, record.MetaKey).Bytes()
	if errors.Is(err, redis.Nil) {
		return record.Meta{}, ErrNotInitialised
	}
	if err != nil {
		return record.Meta{}, Typed(record.MetaKey, "string", err)
	}
	meta, err := record.OpenMeta(ring, raw)
	if err != nil {
		return record.Meta{}, fmt.Errorf("%s: %w", record.MetaKey, err)
	}
	return meta, nil
}

// metaRetry is the mean pause between two attempts to read the store's identity.
const metaRetry = 250 * time.Millisecond

// AwaitMeta reads which store the Redis holds, and retries until it succeeds. It logs why it has to wait. It
// returns the context's error when ctx ends first.
func (c *Client) AwaitMeta(ctx context.Context, ring *keyring.Ring, log *slog.Logger) (record.Meta, error) {
	logged := ""
	for {
		meta, err := c.Meta(ctx, ring)
		if err == nil {
			return meta, nil
		}
		if ctx.Err() != nil {
			return record.Meta{}, ctx.Err()
		}
		if logged != err.Error() {
			logged = err.Error()
			log.Warn("cannot read which store the Redis holds; trying again", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(metaRetry/2 + rand.N(metaRetry)):
		}
	}
}
