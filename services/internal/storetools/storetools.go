// Package storetools is what an operator does with a store as a whole: look at it, prove all of it, back it up, put a
// backup in its place, or take it as it is after a loss.
//
// What reads sees one state of each partition, whatever is changed meanwhile. What writes compares each partition with
// what it was computed from, as every change does, so authorities and validators may run on. It knows neither flags nor
// the terminal.
package storetools

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/services/authority/store"
)

// Tools work on one Redis.
type Tools struct {
	client *redisfeed.Client
	ring   *keyring.Ring
}

// New returns tools for a Redis. The client stays the caller's to close.
func New(client *redisfeed.Client, ring *keyring.Ring) *Tools { return &Tools{client, ring} }

// Finding is something that is not as it should be.
type Finding struct {
	// Where is a key, with the app or number of the entry behind it.
	Where string `json:"where"`
	What  string `json:"what"`
}

// String returns it as one line.
func (f Finding) String() string { return f.Where + ": " + f.What }

// Totals is how much there is.
type Totals struct {
	Partitions int    `json:"partitions"`
	Apps       uint64 `json:"apps"`
	Links      uint64 `json:"links"`
	AuditRows  uint64 `json:"auditRows"`
}

// listed returns a list that is written as one, also when it is empty.
func listed[T any](all []T) []T {
	if all == nil {
		return []T{}
	}
	return all
}

// codec returns the codec of the store that the Redis holds.
func (t *Tools) codec(ctx context.Context) (*record.Codec, error) {
	meta, err := t.client.Meta(ctx, t.ring)
	if broken(err) {
		meta, err = t.client.Meta(ctx, t.ring) // on another connection, if there is one to be had
	}
	if err != nil {
		return nil, err
	}
	return record.NewCodec(t.ring, meta), nil
}

// fleet returns the validators that have reported, by name. A record that does not verify is left out.
func (t *Tools) fleet(ctx context.Context, codec *record.Codec) ([]*record.Validator, error) {
	raw, err := store.NewFleet(t.client).Read(ctx)
	if err != nil {
		return nil, fmt.Errorf("the reports of validators: %w", err)
	}
	var all []*record.Validator
	for _, name := range slices.Sorted(maps.Keys(raw)) {
		if v, err := codec.OpenValidator(name, []byte(raw[name])); err == nil && !v.Gone {
			all = append(all, v)
		}
	}
	return all, nil
}

// furthest returns, by partition, the furthest that validators have reported: the zero cursor where none has.
func furthest(validators []*record.Validator, partitions int) []record.Cursor {
	top := make([]record.Cursor, partitions)
	for _, v := range validators {
		for partition, at := range v.Cursors {
			if partition < partitions && beyond(at, top[partition]) {
				top[partition] = at
			}
		}
	}
	return top
}

// beyond tells whether a cursor is further than another.
func beyond(a, b record.Cursor) bool {
	return a.Epoch > b.Epoch || a.Epoch == b.Epoch && a.Revision > b.Revision
}
