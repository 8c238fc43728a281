// Package redisfeed connects to the Redis of a store, be it one server, a Sentinel group or a Cluster, and
// is the replica's Source over it: a Feed reads heads, logs and documents, and subscribes to hints. It
// writes nothing, and uses only commands that a read-only account may have.
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

// Every error comes back from the call that met it. What go-redis prints beside that, on the standard error
// and in a form of its own, would be a second log.
func init() { logging.Disable() }

// ErrNotInitialised says that the Redis holds no store of ours.
var ErrNotInitialised = errors.New("the store is not initialised (countersign store init)")

const (
	// requestBuffer is what the requests of a reader need at once.
	requestBuffer = 4 << 10
	// maxScans is how many scans of documents go on at the same time; others wait. maxConnections, to one
	// server and for one purpose, leaves room for other reads beside them.
	maxScans       = 8
	maxConnections = 32
)

// Options say how a store is read.
type Options struct {
	// WriteQuorum is how many replicas of a master must be in contact with it for a read to count; 0 asks
	// for none.
	WriteQuorum int
}

// Client has the connections to the Redis of a store. It is safe for concurrent use.
//
// The embedded client is for all that needs no particular connection. It finds the master, follows a slot
// that has moved, and sends nothing twice that may have been run.
type Client struct {
	redis.UniversalClient
	options  Options
	target   *target
	topology *topology
	// locating is for asking where the masters are, polling for heads, reading for whatever takes longer,
	// writing for OnMaster. Each subscription has a connection of its own.
	locating, polling, reading, writing *pool
	scans                               chan struct{} // holds a place for each scan
}

// Open makes a client; it connects when it is first used. The URL is that of a single server, of sentinels
// or of a cluster (docs/deployment.md: Redis).
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
		lines := newLines(c.topology, at(c.target.server, ""))
		c.UniversalClient = redis.NewClient(lines.options)
		follow = lines.follow
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

// Close ends all connections, and whatever waits for one.
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

// master returns the server that has a slot.
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

// OnMaster calls f with one connection of the master that has a key, and returns f's error. It tries
// nothing twice, and learns from the error where the master may be now: when NotRun tells that what f did
// last was not run, f may be tried again on another call.
//
// While a cluster moves the key's slot, a command on several keys of which only some are there, or exist,
// is refused with TRYAGAIN, and one on keys that are all gone or do not exist with ASK. Both last until the
// move of the slot has ended; a command on one connection cannot do better, since the new master refuses it
// for the same reason.
func (c *Client) OnMaster(ctx context.Context, key string, f func(*redis.Conn) error) error {
	slot := slotOf(key)
	s, err := c.master(ctx, c.writing, slot)
	if err != nil {
		return fmt.Errorf("%w: %w", errNotReached, err)
	}
	connection := s.Conn()
	defer connection.Close()
	s.asks()
	err = f(connection)
	c.writing.heard(s, err)
	c.topology.learn(s.address, err)
	return err
}

// errNotReached says that there was no server to send to.
var errNotReached = errors.New("no master is known")

// notRun are the errors by which Redis refuses a command before it runs it, for a reason that passes.
var notRun = []string{"MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "READONLY", "BUSY"}

// NotRun tells whether an error means that a command was not run, for a reason that passes: it may be sent
// again. Of a pipeline or a script that writes, it says so only of the command that met it.
func NotRun(err error) bool {
	var network *net.OpError
	if errors.Is(err, errNotReached) || errors.Is(err, redis.ErrPoolTimeout) || errors.As(err, &network) && network.Op == "dial" {
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

// metaRetry is the mean pause between two tries to learn which store there is.
const metaRetry = 250 * time.Millisecond

// AwaitMeta reads which store the Redis holds, as long as it takes, and says in the log why it takes long.
// It returns the context's error when that ends first.
func (c *Client) AwaitMeta(ctx context.Context, ring *keyring.Ring, log *slog.Logger) (record.Meta, error) {
	said := ""
	for {
		meta, err := c.Meta(ctx, ring)
		if err == nil {
			return meta, nil
		}
		if ctx.Err() != nil {
			return record.Meta{}, ctx.Err()
		}
		if said != err.Error() {
			said = err.Error()
			log.Warn("no store yet; trying on", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(metaRetry/2 + rand.N(metaRetry)):
		}
	}
}
