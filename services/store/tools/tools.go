// Package tools has the operations of an operator on a whole store: status, verification, backup,
// restoration, repair, adoption. This package is not part of the public API and may change in any release.
//
// Reads see each partition in one consistent state, whatever changes meanwhile. Writes compare each partition
// with the state that they were computed from, as every change does, so authorities and validators may keep
// running. The package knows neither flags nor the terminal.
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

// Tools runs an operator's operations on the store of one Redis. It is safe for concurrent use.
type Tools struct {
	client *redisfeed.Client
	ring   *keyring.Ring
	floor  record.Floor
}

// New returns the tools for a Redis. The caller closes the client.
func New(client *redisfeed.Client, ring *keyring.Ring) *Tools {
	return &Tools{client: client, ring: ring}
}

// UseFloor sets the floor of an authority. Restorations begin their epochs above it, and Status compares the
// heads with it.
func (t *Tools) UseFloor(floor record.Floor) { t.floor = floor }

// floorOf returns the floor of each partition of a store. The cursors are zero without a floor, and when the
// floor belongs to another store.
func (t *Tools) floorOf(codec *record.Codec) []record.Cursor {
	floor := make([]record.Cursor, codec.Partitions())
	if t.floor.StoreID == codec.StoreID() {
		copy(floor, t.floor.Cursors)
	}
	return floor
}

// Finding is one thing that is wrong.
type Finding struct {
	// Where is a key, then the app or the number of the entry in it.
	Where string `json:"where"`
	What  string `json:"what"`
}

// String returns the finding as one line.
func (f Finding) String() string { return f.Where + ": " + f.What }

// Totals counts what a store or a file holds.
type Totals struct {
	Partitions int    `json:"partitions"`
	Apps       uint64 `json:"apps"`
	Links      uint64 `json:"links"`
	AuditRows  uint64 `json:"auditRows"`
}

// listed makes a nil list an empty one, which JSON shows as a list.
func listed[T any](all []T) []T {
	if all == nil {
		return []T{}
	}
	return all
}

// codec returns the codec of the store in Redis.
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

// fleet returns the reported validators by name. Records that do not verify are left out.
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

// readFleet returns the fields of the fleet's hash.
func (t *Tools) readFleet(ctx context.Context) (raw map[string]string, err error) {
	err = retry(ctx, func() (err error) {
		raw, err = store.NewFleet(t.client).Read(ctx)
		return err
	})
	return raw, err
}

// furthest returns, by partition, the furthest cursor that validators have reported; zero where none has.
// Known are the positions in signed records. A report that is implausible beyond these is left out and
// returned as a finding: an epoch above it would leave no room for changes.
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
					What: fmt.Sprintf("claims epoch %d, revision %d of partition %d, which is too far beyond the store; it is ignored",
						at.Epoch, at.Revision, partition),
				})
			case top[partition].Before(at):
				top[partition] = at
			}
		}
	}
	return top, implausible
}

// above returns where an operator's epoch begins, above all known cursors of a partition. It fails when no
// room is left. The tag is new.
func above(known ...record.Cursor) (record.Cursor, error) {
	top := record.Highest(known...)
	if top.Epoch >= record.MaxStart || top.Revision > record.MaxStart-revisionJump {
		return record.Cursor{}, fmt.Errorf("epoch %d, revision %d are too high: an operator's epoch begins at %d at most, so "+
			"that changes fit behind it",
			top.Epoch, top.Revision, uint64(record.MaxStart))
	}
	return record.Cursor{Epoch: top.Epoch + 1, Revision: top.Revision + revisionJump, Tag: record.NewTag()}, nil
}

// checkAboveEpoch checks an epoch that an operator has given.
func checkAboveEpoch(epoch uint64) error {
	if epoch >= record.MaxStart {
		return fmt.Errorf("--above-epoch %d: want one below %d; nothing was changed", epoch, uint64(record.MaxStart))
	}
	return nil
}
