// Package embedded is a store in this process's memory, for trying things out where there is no Redis.
// Nothing is kept. This package is not part of the public API and may change in any release.
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

// Redis speaks Redis on loopback, behind a password that nobody else has. Its store needs
// store.Options.Embedded.
type Redis struct {
	server *miniredis.Miniredis
	// URL has the password.
	URL string
}

// Start starts an empty Redis, until Close.
func Start() (*Redis, error) {
	server := miniredis.NewMiniRedis()
	password := secret.Mint().Reveal()
	server.RequireAuth(password)
	// Otherwise keys would live for ever: time passes in the embedded store only when it is told so.
	server.ClockTTL(true)
	if err := server.StartAddr("127.0.0.1:0"); err != nil {
		return nil, fmt.Errorf("embedded store: %w", err)
	}
	where := url.URL{Scheme: "redis", User: url.UserPassword("", password), Host: server.Addr(), Path: "/0"}
	return &Redis{server: server, URL: where.String()}, nil
}

// StartStore starts one and makes a store in it that a key ring signs.
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

// Close ends it, and what it holds is gone.
func (r *Redis) Close() { r.server.Close() }
