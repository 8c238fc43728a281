// Package floorfile keeps, in a file, how far an authority has seen the store: what a store that came back
// empty, or as an old copy, is compared with when everything was started again. The file is signed with the
// key ring and belongs to one authority. This package is not part of the public API and may change in any
// release.
package floorfile

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/countersign/countersign/pkg/atomicfile"
	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/record"
)

// Lag is how far the file may lag behind what was confirmed. It never runs ahead. What an authority has
// changed is confirmed by its next read of the store, some 250 ms later.
const Lag = time.Second

// maxSize is far more than a floor of 256 partitions takes.
const maxSize = 1 << 20

// Read returns what a file holds. An error of a file that is not there is fs.ErrNotExist.
func Read(path string, ring *keyring.Ring) (record.Floor, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return record.Floor{}, err
	case info.Size() > maxSize:
		return record.Floor{}, fmt.Errorf("%s: %d bytes, want at most %d", path, info.Size(), maxSize)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return record.Floor{}, err
	}
	floor, err := record.OpenFloor(ring, raw)
	if err != nil {
		return record.Floor{}, fmt.Errorf("%s is no floor file, is damaged, or was signed with a key that this key ring lacks: %w", path, err)
	}
	return floor, nil
}

// options are those of the file. An authority that runs as another user than before must be able to go on.
var options = atomicfile.Options{Mode: 0o600, TakeOver: true}

// CheckFolder makes sure that a file can be written.
func CheckFolder(path string) error {
	probe, err := atomicfile.Create(path, options)
	if err == nil {
		probe.Discard()
	}
	return err
}

// Replica is what is asked of the authority's replica.
type Replica interface {
	Codec() *record.Codec
	// Confirmed returns the furthest place of a partition that a read of the store, or an earlier floor,
	// has shown.
	Confirmed(partition int) record.Cursor
}

// Keeper keeps one file. Make one with the fields set.
type Keeper struct {
	Path string
	Ring *keyring.Ring
	Log  *slog.Logger
	// Failed is called for each try to write the file that failed.
	Failed func()

	written []record.Cursor
	failing bool
}

// Run writes what a replica has confirmed, at most once in Lag and only when it has changed, until ctx
// ends, and then once more.
func (k *Keeper) Run(ctx context.Context, of Replica) {
	for {
		k.save(of)
		select {
		case <-ctx.Done():
			k.save(of)
			return
		case <-time.After(Lag):
		}
	}
}

// save writes the file if it says less than was confirmed.
func (k *Keeper) save(of Replica) {
	floor := record.Floor{StoreID: of.Codec().StoreID(), Cursors: make([]record.Cursor, of.Codec().Partitions()), Written: time.Now()}
	for partition := range floor.Cursors {
		floor.Cursors[partition] = of.Confirmed(partition)
	}
	if slices.Equal(floor.Cursors, k.written) {
		return
	}
	raw, err := record.SealFloor(k.Ring, floor)
	if err == nil {
		err = atomicfile.Write(k.Path, raw, options)
	}
	if err == nil {
		k.written, k.failing = floor.Cursors, false
		return
	}
	k.Failed()
	if !k.failing {
		k.failing = true
		k.Log.Error("the floor file cannot be written; what is confirmed from now on is not in it", "file", k.Path, "error", err)
	}
}
