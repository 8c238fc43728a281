// Package tools is what an operator does with a store as a whole: look at it, prove all of it, back it up,
// put a backup in its place, or take it as it is after a loss. This package is not part of the public API and
// may change in any release.
//
// What reads sees one state of each partition, whatever is changed meanwhile. What writes compares each
// partition with what it was computed from, as every change does, so authorities and validators may run on.
// It knows neither flags nor the terminal.
package tools

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/services/store"
)

// Operator works on the store of one Redis, as a person does. Its methods are safe for concurrent use.
type Tools struct {
	client *redisfeed.Client
	ring   *keyring.Ring
	floor  record.Floor
}

// New returns an operator for a Redis. The client stays the caller's to close.
func New(client *redisfeed.Client, ring *keyring.Ring) *Tools {
	return &Tools{client: client, ring: ring}
}

// UseFloor says how far an authority has seen a store: what is put in its place begins above that, and a
// look compares with it.
func (t *Tools) UseFloor(floor record.Floor) { t.floor = floor }

// floorOf returns the floor of each partition of a store; zero cursors when there is none, or it is of
// another store.
func (t *Tools) floorOf(codec *record.Codec) []record.Cursor {
	floor := make([]record.Cursor, codec.Partitions())
	if t.floor.StoreID == codec.StoreID() {
		copy(floor, t.floor.Cursors)
	}
	return floor
}

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
	meta, err := t.meta(ctx)
	if errors.Is(err, redisfeed.ErrNotInitialised) {
		err = cmp.Or(t.lostMeta(ctx), err)
	}
	if err != nil {
		return nil, err
	}
	return record.NewCodec(t.ring, meta), nil
}

// fleet returns the validators that have reported, by name. A record that does not verify is left out.
func (t *Tools) fleet(ctx context.Context, codec *record.Codec) ([]*record.Validator, error) {
	raw, err := t.readFleet(ctx)
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

// readFleet returns what authorities share of the validators, as it stands there.
func (t *Tools) readFleet(ctx context.Context) (raw map[string]string, err error) {
	err = retry(ctx, func() (err error) {
		raw, err = store.NewFleet(t.client).Read(ctx)
		return err
	})
	return raw, err
}

// furthest returns, by partition, the furthest that validators have reported: the zero cursor where none
// has. What is implausible by the positions that signed records show, by partition, is left out, and found:
// a store that began its next epoch above it would have no room for changes.
func furthest(validators []*record.Validator, known []record.Cursor) (top []record.Cursor, implausible []Finding) {
	top = make([]record.Cursor, len(known))
	highest := record.Highest(known...)
	for _, v := range validators {
		for partition, at := range v.Cursors {
			switch {
			case partition >= len(known):
			case !at.Plausible(highest):
				implausible = append(implausible, Finding{
					Where: record.FleetKey + " " + v.ID,
					What:  fmt.Sprintf("claims epoch %d, revision %d of partition %d, which is too far beyond the store; it is ignored", at.Epoch, at.Revision, partition),
				})
			case top[partition].Before(at):
				top[partition] = at
			}
		}
	}
	return top, implausible
}

// above returns where an operator's epoch begins, given all that is known of a partition, or an error when
// there is no room. The tag is new.
func above(known ...record.Cursor) (record.Cursor, error) {
	top := record.Highest(known...)
	if top.Epoch >= record.MaxStart || top.Revision > record.MaxStart-revisionJump {
		return record.Cursor{}, fmt.Errorf("epoch %d, revision %d are too high: an operator's epoch begins at %d at most, so that changes fit behind it",
			top.Epoch, top.Revision, uint64(record.MaxStart))
	}
	return record.Cursor{Epoch: top.Epoch + 1, Revision: top.Revision + revisionJump, Tag: record.NewTag()}, nil
}

// checkAboveEpoch checks an epoch that an operator has named.
func checkAboveEpoch(epoch uint64) error {
	if epoch >= record.MaxStart {
		return fmt.Errorf("--above-epoch %d: want one below %d; nothing was changed", epoch, uint64(record.MaxStart))
	}
	return nil
}
