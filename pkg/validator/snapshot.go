package validator

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/snapshot"
)

// DefaultSnapshotInterval is the default of SnapshotFile.Interval.
const DefaultSnapshotInterval = time.Minute

// SnapshotFile says in which file a validator keeps a copy of all policies, and how often it writes this
// copy.
type SnapshotFile struct {
	// Path is the file. No other validator may use it. Empty means no file.
	Path string
	// Interval is the time between two writes. 0 means DefaultSnapshotInterval.
	Interval time.Duration
}

// SnapshotStats counts failures with the snapshot file since New, and has the time of its latest copy.
type SnapshotStats struct {
	// Time is when the validator began to write the copy that was read or written last. It is zero before any
	// was.
	Time time.Time
	// ReadErrors counts copies that could not be used. WriteErrors counts failures to write the file.
	ReadErrors, WriteErrors uint64
}

// snapshotState is the state of a validator's snapshot file.
type snapshotState struct {
	time                    atomic.Pointer[time.Time]
	readErrors, writeErrors atomic.Uint64
	// verified is when the writing of the latest copy began or, for a copy that was read, when it was read.
	// cursors are the cursors in this copy. Only the goroutine that writes uses them.
	verified time.Time
	cursors  []record.Cursor
}

// Snapshot returns the statistics of the snapshot file, and false when no file is configured.
func (v *Validator) Snapshot() (SnapshotStats, bool) {
	s := SnapshotStats{ReadErrors: v.snapshot.readErrors.Load(), WriteErrors: v.snapshot.writeErrors.Load()}
	if at := v.snapshot.time.Load(); at != nil {
		s.Time = *at
	}
	return s, v.config.Snapshot.Path != ""
}

func (s *snapshotState) unusable(log *slog.Logger, why error) {
	s.readErrors.Add(1)
	log.Error("the snapshot file is not used", "error", why)
}

// fromSnapshot returns a replica with the data of the snapshot file. It returns nil when the file does not
// exist or cannot be used; the validator then starts without it.
func (v *Validator) fromSnapshot() *replica.Replica {
	path, log := v.config.Snapshot.Path, v.config.Log
	if path == "" {
		return nil
	}
	began := time.Now()
	r, created, err := v.readSnapshot(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		log.Info("there is no snapshot file yet", "file", path)
		return nil
	case err != nil:
		v.snapshot.unusable(log, err)
		return nil
	}
	v.snapshot.time.Store(&created)
	v.snapshot.verified, v.snapshot.cursors = time.Now(), r.Cursors()
	log.Info(
		"starting from the snapshot file", "file", path, "store", r.Codec().StoreID(), "written", created,
		"took", time.Since(began),
	)
	return r
}

func (v *Validator) readSnapshot(path string) (*replica.Replica, time.Time, error) {
	file, err := snapshot.Open(path, v.config.Ring)
	if err != nil {
		return nil, time.Time{}, err
	}
	defer file.Close()
	r := v.newReplica(file.Meta())
	// Nothing else uses the replica until the file has been read completely.
	if err := file.Replicas(r.Import); err != nil {
		return nil, time.Time{}, err
	}
	return r, file.CreateTime(), nil
}

// keepSnapshot writes a copy when the replica is loaded, and then a copy after each interval, until ctx ends.
func (v *Validator) keepSnapshot(ctx context.Context, r *replica.Replica) {
	if v.config.Snapshot.Path == "" || r.WaitLoaded(ctx) != nil {
		return
	}
	interval := v.config.Snapshot.Interval
	if interval == 0 {
		interval = DefaultSnapshotInterval
	}
	for {
		v.saveSnapshot(r)
		select {
		case <-ctx.Done():
			return
		case <-time.After(interval):
		}
	}
}

// saveSnapshot writes a copy if snapshotDue returns true. It logs and counts errors.
func (v *Validator) saveSnapshot(r *replica.Replica) {
	now, cursors := time.Now(), r.Cursors()
	if !v.snapshotDue(r, now, cursors) {
		return
	}
	if err := v.writeSnapshot(r); err != nil {
		v.snapshot.writeErrors.Add(1)
		v.config.Log.Error("writing the snapshot file failed; the one before stays", "file", v.config.Snapshot.Path, "error", err)
		return
	}
	v.snapshot.verified, v.snapshot.cursors = now, cursors
	v.snapshot.time.Store(&now)
	v.config.Log.Debug("snapshot file written", "took", time.Since(now))
}

// snapshotDue reports whether to write a copy: all data is loaded, and some of it was changed or verified
// since the latest copy.
func (v *Validator) snapshotDue(r *replica.Replica, now time.Time, cursors []record.Cursor) bool {
	due := !slices.Equal(cursors, v.snapshot.cursors)
	for i := range cursors {
		if r.Table().Partition(i) == nil {
			return false
		}
		due = due || r.Age(i, now) < now.Sub(v.snapshot.verified)
	}
	return due
}

func (v *Validator) writeSnapshot(r *replica.Replica) error {
	file, err := snapshot.Create(v.config.Snapshot.Path, v.config.Ring, r.Codec().Meta(), snapshot.OfReplica)
	if err != nil {
		return err
	}
	for i := range r.Codec().Partitions() {
		contents, loaded := r.Export(i)
		if !loaded {
			err = errors.New("not everything is loaded")
		}
		if err == nil {
			err = file.Replica(contents)
		}
	}
	if err != nil {
		file.Discard()
		return err
	}
	return file.Commit()
}

// leaveSnapshot writes a last copy, of the replica that the validator decides from.
func (v *Validator) leaveSnapshot() {
	if r := v.replica.Load(); r != nil && v.config.Snapshot.Path != "" {
		v.saveSnapshot(r)
	}
}
