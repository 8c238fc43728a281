// Package floorfile saves the furthest positions that an authority has confirmed in the store (its floor) to
// a file. After everything was restarted, the floor shows whether the store came back empty or as an old
// copy. The file is signed with the key ring and belongs to one authority. This package is not part of the
// public API and may change in any release.
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

// Lag bounds how far the file lags behind the confirmed positions. The file is never ahead of them. An
// authority's own change is confirmed by its next read of the store, about 250 ms later.
const Lag = time.Second

// maxSize is far more than a floor of 256 partitions needs.
const maxSize = 1 << 20

// Read returns the floor in a file. The error for a missing file is fs.ErrNotExist.
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
		return record.Floor{}, fmt.Errorf("%s is no floor file, is damaged, or was signed with a key that this key ring lacks: "+
			"%w", path, err)
	}
	return floor, nil
}

// options are the file's mode and owner rules. An authority that runs as another user than before can take
// the file over.
var options = atomicfile.Options{Mode: 0o600, TakeOver: true}

// CheckFolder fails when the file cannot be written.
func CheckFolder(path string) error {
	probe, err := atomicfile.Create(path, options)
	if err == nil {
		probe.Discard()
	}
	return err
}

// Replica is what a Keeper needs of the authority's replica.
type Replica interface {
	Codec() *record.Codec
	// Confirmed returns the furthest cursor of a partition that a read of the store, or an earlier floor, has
	// shown.
	Confirmed(partition int) record.Cursor
}

// Keeper saves the floor of one authority to one file. Set the exported fields before use.
type Keeper struct {
	Path string
	Ring *keyring.Ring
	Log  *slog.Logger
	// Failed is called after each failed attempt to write the file.
	Failed func()

	written []record.Cursor
	failing bool
}

// Run writes what a replica has confirmed when it has changed, at most once in Lag. It returns after ctx ends
// and a last write.
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

// save writes the file if the confirmed positions have changed.
func (k *Keeper) save(of Replica) {
	floor := record.Floor{
		StoreID: of.Codec().StoreID(), Cursors: make([]record.Cursor, of.Codec().Partitions()),
		Written: time.Now(),
	}
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
		k.Log.Error("the floor file cannot be written; it lacks later confirmed positions", "file", k.Path, "error", err)
	}
}
