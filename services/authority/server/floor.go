package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/services/internal/floorfile"
)

// floorState holds the floor from the floor file.
type floorState struct {
	// floor is the content of the file when the authority started; nil when there was no file.
	floor  *record.Floor
	failed prometheus.Counter
}

// read reads the floor file. A missing file is no error: the authority has no floor yet. A damaged file is an
// error, so that the authority does not run without the floor that it had.
func (f *floorState) read(config Config) error {
	if config.FloorFile == "" {
		return nil
	}
	floor, err := floorfile.Read(config.FloorFile, config.Ring)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := floorfile.CheckFolder(config.FloorFile); err != nil {
			return fmt.Errorf("--floor-file: %w", err)
		}
		config.Log.Info("there is no floor file yet", "file", config.FloorFile)
		return nil
	case err != nil:
		return fmt.Errorf("--floor-file: %w. If the key ring is the right one, make sure that the store is whole (countersign "+
			"store verify), "+
			"and remove the file: the authority then starts without a floor", err)
	}
	f.floor = &floor
	return nil
}

// apply gives the floor to the replica. A file of another store is an error: the operator has named the wrong
// Redis, or has replaced the store.
func (f *floorState) apply(r *replica.Replica, config Config) error {
	codec := r.Codec()
	if f.floor == nil {
		return nil
	}
	if f.floor.StoreID != codec.StoreID() || len(f.floor.Cursors) != codec.Partitions() {
		return fmt.Errorf("--floor-file: %s is of store %s with %d partitions, Redis holds store %s with %d: this is the wrong "+
			"Redis, "+
			"or the store was replaced. If it was replaced on purpose, remove the file",
			config.FloorFile, f.floor.StoreID, len(f.floor.Cursors), codec.StoreID(), codec.Partitions())
	}
	r.SetFloor(f.floor.Positions())
	config.Log.Info("the store must be at the floor at least", "file", config.FloorFile, "written", f.floor.Written)
	return nil
}

// keep writes the floor file until ctx ends. It does nothing when no file is configured.
func (f *floorState) keep(ctx context.Context, r *replica.Replica, config Config) {
	if config.FloorFile != "" {
		(&floorfile.Keeper{Path: config.FloorFile, Ring: config.Ring, Log: config.Log, Failed: f.failed.Inc}).Run(ctx, r)
	}
}

// below returns the number of partitions that are not loaded because the store is below the floor, and the
// highest epoch of the floor.
func below(r *replica.Replica) (partitions int, epoch uint64) {
	for _, p := range r.Unserved() {
		if at := r.Confirmed(p.Partition); p.Forked && at != (record.Cursor{}) {
			partitions, epoch = partitions+1, max(epoch, at.Epoch)
		}
	}
	return partitions, epoch
}

// unusedAfter is the age of a store above which a store without any change is suspicious.
const unusedAfter = time.Hour

// cameBackEmpty reports whether the store may have lost everything: it is older than unusedAfter, and nothing
// was ever changed in it. It returns false when there is a floor, since a floor shows a loss more reliably.
func (f *floorState) cameBackEmpty(r *replica.Replica, now time.Time) bool {
	if f.floor != nil || now.Sub(r.Codec().Meta().CreateTime) < unusedAfter {
		return false
	}
	for _, at := range r.Cursors() {
		if at.Epoch == 0 || at.Revision > 0 {
			return false
		}
	}
	return true
}

// register registers the metrics of the floor.
func (f *floorState) register(registry *prometheus.Registry, of func() *replica.Replica) {
	gauge := func(name, help string, value func(*replica.Replica) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			if r := of(); r != nil {
				return value(r)
			}
			return 0
		})
	}
	f.failed = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "countersign_floor_file_errors_total", Help: "Tries to write the floor file that failed.",
	})
	registry.MustRegister(f.failed,
		gauge("countersign_below_floor_partitions",
			"Partitions in which the store is below the positions in the floor file.",
			func(r *replica.Replica) float64 { n, _ := below(r); return float64(n) }),
		gauge("countersign_store_empty",
			"1 when nothing was ever changed in a store that is older than an hour, and no floor file shows whether it lost "+
				"everything.",
			func(r *replica.Replica) float64 {
				if f.cameBackEmpty(r, time.Now()) {
					return 1
				}
				return 0
			}))
}
