// Package provision creates what must exist before anything runs: the key ring, the store that it signs, and
// admin keys. Each step may be interrupted at any point and repeated. This package is not part of the public
// API and may change in any release.
package provision

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/countersign/countersign/pkg/atomicfile"
	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/services/internal/settings"
	"github.com/countersign/countersign/services/store"
)

// Store describes a store to initialise.
type Store struct {
	RedisURL string
	// KeyringFile is the file with the keys that sign the store's records. Init creates it if it is missing.
	KeyringFile string
	// Partitions is the number of partitions of a new store; 0 means the default.
	Partitions int
	// StartOver allows a new store in an empty Redis for an existing key ring.
	StartOver bool
}

// Made describes an initialised store.
type Made struct {
	StoreID    string `json:"storeId"`
	Partitions int    `json:"partitions"`
	// Created says that this run initialised the store, NewKeyring that it created the key ring.
	Created    bool `json:"created"`
	NewKeyring bool `json:"newKeyring"`
}

// ErrDataLost means that a key ring exists and its store does not.
var ErrDataLost = errors.New("there is no store here, but its key ring exists: " +
	"either the data was lost, or this is the wrong Redis. Nothing was changed. " +
	"To start over with an empty store on purpose, give --new-store")

// Init initialises a store, and creates its key ring if that is missing.
//
// The ring gets its final name last. Until then it has a temporary name, from which a run after an
// interrupted one takes it. So a ring with its final name always has a store, and an empty Redis with such a
// ring means lost data.
func (s Store) Init(ctx context.Context) (Made, error) {
	client, err := redisfeed.Open(s.RedisURL, redisfeed.Options{})
	if err != nil {
		return Made{}, fmt.Errorf("--redis-url: %w", err)
	}
	defer client.Close()
	// The ring gets its name by a link, which replaces nothing, not even a symbolic link. So resolve the path
	// first.
	if s.KeyringFile, err = atomicfile.Resolve(s.KeyringFile); err != nil {
		return Made{}, fmt.Errorf("--keyring-file: %w", err)
	}
	made, err := s.init(ctx, client)
	if err != nil {
		return Made{}, s.explain(err)
	}
	if s.Partitions != 0 && made.Partitions != s.Partitions {
		return Made{}, fmt.Errorf("the store has %d partitions, and their number cannot change", made.Partitions)
	}
	return made, nil
}

func (s Store) init(ctx context.Context, client *redisfeed.Client) (Made, error) {
	ring, err := keyring.Load(s.KeyringFile)
	if errors.Is(err, fs.ErrNotExist) {
		return s.withNewRing(ctx, client)
	}
	if err != nil {
		return Made{}, err
	}
	if _, err := client.Meta(ctx, ring); errors.Is(err, redisfeed.ErrNotInitialised) && !s.StartOver {
		return Made{}, ErrDataLost
	} else if err != nil && !errors.Is(err, redisfeed.ErrNotInitialised) {
		return Made{}, err
	}
	return s.withRing(ctx, client, ring)
}

func (s Store) withNewRing(ctx context.Context, client *redisfeed.Client) (Made, error) {
	// Check Redis before creating a file that would have to be removed.
	if _, err := client.Meta(ctx, keyring.Generate()); !errors.Is(err, redisfeed.ErrNotInitialised) &&
		!fileExists(s.newRing()) {
		return Made{}, err
	}
	ring, taken, err := s.prepareRing()
	if err != nil {
		return Made{}, err
	}
	if taken {
		return s.init(ctx, client) // another run has finished meanwhile
	}
	made, err := s.withRing(ctx, client, ring)
	if err != nil {
		return Made{}, err
	}
	made.NewKeyring = true
	// Unlike a rename, a link never replaces the ring of another run, and never passes off another run's
	// beginning as this run's ring. Remove the temporary name only after the final name exists.
	switch err := os.Link(s.newRing(), s.KeyringFile); {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrExist):
		return s.init(ctx, client) // another run with the same ring was faster
	case err != nil:
		return Made{}, err
	}
	if err := os.Remove(s.newRing()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Made{}, err
	}
	return made, atomicfile.SyncFolder(s.KeyringFile)
}

func (s Store) withRing(ctx context.Context, client *redisfeed.Client, ring *keyring.Ring) (Made, error) {
	partitions := s.Partitions
	if partitions == 0 {
		partitions = record.DefaultPartitions
	}
	_, created, err := store.Init(ctx, client, ring, partitions)
	// Two concurrent runs may disturb each other; what counts is the store that exists in the end.
	meta, notThere := client.Meta(ctx, ring)
	switch {
	case notThere != nil && err != nil:
		return Made{}, err
	case notThere != nil:
		return Made{}, notThere
	}
	return Made{StoreID: meta.StoreID, Partitions: meta.Partitions, Created: err == nil && created}, nil
}

// explain adds the Redis URL to an error.
func (s Store) explain(err error) error {
	where := settings.RedactURL(s.RedisURL)
	signed := errors.Is(err, keyring.ErrUnknownKey) || errors.Is(err, keyring.ErrMismatch)
	switch {
	case signed && fileExists(s.KeyringFile):
		return fmt.Errorf("%s: there is a store, or the rest of one, that was not signed with the key ring %s; "+
			"nothing was changed",
			where, s.KeyringFile)
	case signed:
		return fmt.Errorf("%s: there is a store, or the rest of one, and its key ring is not at %s; nothing was changed",
			where, s.KeyringFile)
	}
	return fmt.Errorf("%s: %w", where, err)
}
