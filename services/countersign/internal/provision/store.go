// Package provision makes what must be there before anything runs: the key ring and the store that it
// signs, and admin keys. Each step can be cut off at any point and run again.
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

// Store says which store to make.
type Store struct {
	RedisURL string
	// KeyringFile is the file of the keys that sign the store's records. It is made if it is missing.
	KeyringFile string
	// Partitions is for a new store; 0 is the default number.
	Partitions int
	// StartOver makes a new store in an empty Redis for a key ring that exists.
	StartOver bool
}

// Made is a store that is initialised.
type Made struct {
	StoreID    string `json:"storeId"`
	Partitions int    `json:"partitions"`
	// Created tells that the store was not initialised before, NewKeyring that the key ring was made for it.
	Created    bool `json:"created"`
	NewKeyring bool `json:"newKeyring"`
}

// ErrDataLost says that a key ring exists and its store does not.
var ErrDataLost = errors.New("there is no store here, but the key ring exists, so there was one: either its data was lost," +
	" or this is not the Redis that was meant. Nothing was changed. To start over with an empty store on purpose, give --new-store")

// Init makes a store, and its key ring if that is missing.
//
// The ring comes to its name last. Until then it stands beside it, and a run after one that was cut off
// takes it from there. So a ring under its name always has a store, and an empty Redis beside it is an
// accident.
func (s Store) Init(ctx context.Context) (Made, error) {
	client, err := redisfeed.Open(s.RedisURL, redisfeed.Options{})
	if err != nil {
		return Made{}, fmt.Errorf("--redis-url: %w", err)
	}
	defer client.Close()
	// A ring comes to its name by a link that replaces nothing, not even a symbolic link.
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
	// A Redis that cannot be used is found out before there is a file to clean up.
	if _, err := client.Meta(ctx, keyring.Generate()); !errors.Is(err, redisfeed.ErrNotInitialised) && !fileExists(s.newRing()) {
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
	// A link, unlike a rename, never replaces the ring of another run, nor takes for this run's what
	// another has begun: it is there from here on, and what stands beside it goes after that.
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
	// Two that initialise at once are in each other's way; what counts is what is there in the end.
	meta, notThere := client.Meta(ctx, ring)
	switch {
	case notThere != nil && err != nil:
		return Made{}, err
	case notThere != nil:
		return Made{}, notThere
	}
	return Made{StoreID: meta.StoreID, Partitions: meta.Partitions, Created: err == nil && created}, nil
}

// explain adds which Redis an error is about.
func (s Store) explain(err error) error {
	where := settings.RedactURL(s.RedisURL)
	signed := errors.Is(err, keyring.ErrUnknownKey) || errors.Is(err, keyring.ErrMismatch)
	switch {
	case signed && fileExists(s.KeyringFile):
		return fmt.Errorf("%s: there is a store, or the rest of one, that another key ring has signed than %s; nothing was changed",
			where, s.KeyringFile)
	case signed:
		return fmt.Errorf("%s: there is a store, or the rest of one, and the key ring that has signed it is not at %s; nothing was changed",
			where, s.KeyringFile)
	}
	return fmt.Errorf("%s: %w", where, err)
}
