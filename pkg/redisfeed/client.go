// Package redisfeed is the replica's Source over Redis: it reads heads, logs and documents, and subscribes to hints.
// It writes nothing, and uses only commands that a read-only account may have.
package redisfeed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/record"
)

const (
	// dialTimeout, ioTimeout and poolTimeout bound every step of a command, so that a half-open connection is
	// noticed within seconds.
	dialTimeout = time.Second
	ioTimeout   = 2 * time.Second
	poolTimeout = 2 * time.Second
)

// Every error comes back from the call that met it. What go-redis prints beside that, on the standard error and in a form
// of its own, would be a second log.
func init() { logging.Disable() }

// ErrNotInitialised says that the Redis holds no store of ours.
var ErrNotInitialised = errors.New("the store is not initialised (countersign store init)")

// parseURL reads a Redis URL (redis:// or rediss://) into options with every timeout set and no retries: a command
// that is sent twice without the caller knowing would break the commit's promise. Its errors do not hold the URL,
// which may have a password.
func parseURL(url string) (*redis.Options, error) {
	options, err := redis.ParseURL(url)
	if err != nil {
		return nil, errors.New("want redis://[user:password@]host:port/db or rediss://")
	}
	options.DialTimeout = dialTimeout
	options.ReadTimeout = ioTimeout
	options.WriteTimeout = ioTimeout
	options.PoolTimeout = poolTimeout
	options.ContextTimeoutEnabled = true
	options.MaxRetries = -1
	options.DialerRetries = 1
	options.DisableIdentity = true
	options.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return options, nil
}

// Client is a connection to the Redis of a store. It is safe for concurrent use.
type Client struct {
	redis.UniversalClient
}

// Open makes a client; it connects when it is first used.
func Open(url string) (*Client, error) {
	options, err := parseURL(url)
	if err != nil {
		return nil, err
	}
	return &Client{redis.NewClient(options)}, nil
}

// Meta reads which store the Redis holds. It returns ErrNotInitialised when it holds none.
func (c *Client) Meta(ctx context.Context, ring *keyring.Ring) (record.Meta, error) {
	raw, err := c.Get(ctx, record.MetaKey).Bytes()
	if errors.Is(err, redis.Nil) {
		return record.Meta{}, ErrNotInitialised
	}
	if err != nil {
		return record.Meta{}, err
	}
	meta, err := record.OpenMeta(ring, raw)
	if err != nil {
		return record.Meta{}, fmt.Errorf("%s: %w", record.MetaKey, err)
	}
	return meta, nil
}

// metaRetry is the mean pause between two tries to learn which store there is.
const metaRetry = 250 * time.Millisecond

// AwaitMeta reads which store the Redis holds, as long as it takes, and says in the log why it takes long. It returns
// the context's error when that ends first.
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
