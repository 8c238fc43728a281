package dev

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
	"github.com/countersign/countersign/services/authority/store"
)

// embedded is a store in this process's memory. It speaks Redis on loopback, behind a password that nobody else has.
type embedded struct {
	server *miniredis.Miniredis
	url    string
}

// startEmbedded starts a store and initialises it for a key ring.
func startEmbedded(ctx context.Context, ring *keyring.Ring) (*embedded, error) {
	server := miniredis.NewMiniRedis()
	password := secret.Mint().Reveal()
	server.RequireAuth(password)
	// Otherwise keys would live for ever: time passes in the embedded store only when it is told so.
	server.ClockTTL(true)
	if err := server.StartAddr("127.0.0.1:0"); err != nil {
		return nil, fmt.Errorf("embedded store: %w", err)
	}
	where := url.URL{Scheme: "redis", User: url.UserPassword("", password), Host: server.Addr(), Path: "/0"}
	e := &embedded{server: server, url: where.String()}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	client, err := redisfeed.Open(e.url, redisfeed.Options{})
	if err != nil {
		server.Close()
		return nil, err
	}
	defer client.Close()
	if _, _, err := store.Init(ctx, client, ring, record.DefaultPartitions); err != nil {
		server.Close()
		return nil, fmt.Errorf("embedded store: %w", err)
	}
	return e, nil
}

func (e *embedded) close() { e.server.Close() }
