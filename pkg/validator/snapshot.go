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

// DefaultSnapshotInterval is the time between two copies when nothing else is said.
const DefaultSnapshotInterval = time.Minute

// SnapshotFile says where a validator keeps a copy of all policies, and how often it writes it.
type SnapshotFile struct {
	// Path is the file, which belongs to this validator alone; empty for none.
	Path string
	// Interval is the time between two copies; 0 is DefaultSnapshotInterval.
	Interval time.Duration
}

// SnapshotStats is what has become of the snapshot file since the validator was made.
type SnapshotStats struct {
	// Time is when the latest copy that was read or written was begun; zero when there was none.
	Time time.Time
	// ReadErrors and WriteErrors are how often it could not be used, or written.
	ReadErrors, WriteErrors uint64
}

// snapshotState is what a validator knows of its snapshot file.
type snapshotState struct {
	time                    atomic.Pointer[time.Time]
	readErrors, writeErrors atomic.Uint64
	// verified is when the latest copy was begun or, for one that was read, the reading; cursors are how
	// far it was. Both belong to whoever writes.
	verified time.Time
	cursors  []record.Cursor
}

// Snapshot returns what has become of the snapshot file; false when there is to be none.
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

// fromSnapshot returns a replica that holds what the snapshot file does; nil when there is none that can be
// used. What is wrong with it is never more than a reason to do without.
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
	log.Info("starting from the snapshot file", "file", path, "store", r.Codec().StoreID(), "written", created, "took",
		time.Since(began))
	return r
}

func (v *Validator) readSnapshot(path string) (*replica.Replica, time.Time, error) {
	file, err := snapshot.Open(path, v.config.Ring)
	if err != nil {
		return nil, time.Time{}, err
	}
	defer file.Close()
	r := v.newReplica(file.Meta())
	// Until all of it was read nothing of it is shown to anyone.
	if err := file.Replicas(r.Import); err != nil {
		return nil, time.Time{}, err
	}
	return r, file.CreateTime(), nil
}

// keepSnapshot writes a copy as soon as there is something to write, and from then on at the interval,
// until ctx ends.
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

// saveSnapshot writes a copy, unless the one before says the same. What goes wrong is logged and counted.
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

// snapshotDue tells whether everything is there, and something was changed or verified since the copy before.
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

// leaveSnapshot writes a last copy of what decided last.
func (v *Validator) leaveSnapshot() {
	if r := v.replica.Load(); r != nil && v.config.Snapshot.Path != "" {
		v.saveSnapshot(r)
	}
}
