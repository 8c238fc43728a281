// Package embedded is a store in the memory of this process, for trials without a Redis. It saves nothing.
// This package is not part of the public API and may change in any release.
package embedded

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/services/store"
)

// Redis is an in-memory Redis on loopback with a random password. Its store needs store.Options.Embedded.
type Redis struct {
	server *miniredis.Miniredis
	// URL contains the password.
	URL string
}

// Start starts an empty Redis. Close stops it.
func Start() (*Redis, error) {
	server := miniredis.NewMiniRedis()
	password := secret.Mint().Reveal()
	server.RequireAuth(password)
	// Without this, time would not pass in the embedded store, and keys would never expire.
	server.ClockTTL(true)
	if err := server.StartAddr("127.0.0.1:0"); err != nil {
		return nil, fmt.Errorf("embedded store: %w", err)
	}
	where := url.URL{Scheme: "redis", User: url.UserPassword("", password), Host: server.Addr(), Path: "/0"}
	return &Redis{server: server, URL: where.String()}, nil
}

// StartStore starts a Redis and makes a store in it that the key ring signs.
func StartStore(ctx context.Context, ring *keyring.Ring) (*Redis, error) {
	r, err := Start()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	client, err := redisfeed.Open(r.URL, redisfeed.Options{})
	if err != nil {
		r.Close()
		return nil, err
	}
	defer client.Close()
	if _, _, err := store.Init(ctx, client, ring, record.DefaultPartitions); err != nil {
		r.Close()
		return nil, fmt.Errorf("embedded store: %w", err)
	}
	return r, nil
}

// Addr returns host and port.
func (r *Redis) Addr() string { return r.server.Addr() }

// Close stops the Redis and drops its data.
func (r *Redis) Close() { r.server.Close() }
