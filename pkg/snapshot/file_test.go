package snapshot_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/snapshot"
	"github.com/countersign/countersign/pkg/testkit/check"
)

func runUntil(t *testing.T, run func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// names returns the names of the files in a folder.
func names(t *testing.T, folder string) (all []string) {
	t.Helper()
	for _, entry := range check.Must(os.ReadDir(folder))(t) {
		all = append(all, entry.Name())
	}
	return all
}

func TestFileTakesThePlaceOfTheOneBeforeWhenItIsWhole(t *testing.T) {
	ring, meta := fixedRing(t), record.Meta{StoreID: "s", Partitions: 2}
	path := filepath.Join(t.TempDir(), "policies.snapshot")
	write := func(apps int, commit bool) error {
		f := check.Must(snapshot.Create(path, ring, meta, snapshot.OfReplica))(t)
		for _, c := range filled(t, ring, meta, apps, 2) {
			if err := f.Replica(c); err != nil {
				t.Fatal(err)
			}
			if !commit {
				f.Discard()
				return nil
			}
		}
		return f.Commit()
	}
	count := func() (apps int) {
		r := check.Must(snapshot.Open(path, ring))(t)
		defer r.Close()
		if err := r.Replicas(func(c replica.Contents) error { apps += len(c.Apps); return nil }); err != nil {
			t.Fatal(err)
		}
		return apps
	}
	for _, apps := range []int{5, 9} {
		if err := write(apps, true); err != nil {
			t.Fatal(err)
		}
		if got := count(); got != apps {
			t.Errorf("%d apps, want %d", got, apps)
		}
	}
	_ = write(100, false)
	// An incomplete file is not committed either.
	f := check.Must(snapshot.Create(path, ring, meta, snapshot.OfReplica))(t)
	if f.Commit() == nil {
		t.Error("a file without partitions was committed")
	}
	if got := count(); got != 9 {
		t.Errorf("%d apps, want 9", got)
	}
	if info := check.Must(os.Stat(path))(t); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	if left := names(t, filepath.Dir(path)); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}

// TestCloseClosesTheFile: a process that opens files repeatedly must not run out of descriptors.
func TestCloseClosesTheFile(t *testing.T) {
	ring, meta := fixedRing(t), record.Meta{StoreID: "s", Partitions: 2}
	path := filepath.Join(t.TempDir(), "policies.snapshot")
	f := check.Must(snapshot.Create(path, ring, meta, snapshot.OfReplica))(t)
	for _, c := range filled(t, ring, meta, 2_000, 2) { // more than is read ahead
		if err := f.Replica(c); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Commit(); err != nil {
		t.Fatal(err)
	}
	r := check.Must(snapshot.Open(path, ring))(t)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := r.Replicas(func(replica.Contents) error { return nil }); !errors.Is(err, os.ErrClosed) {
		t.Errorf("reading a closed file: %v, want %v", err, os.ErrClosed)
	}
}

func TestLeftoversOfKilledWritersAreRemoved(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "s")
	for name, age := range map[string]time.Duration{
		".s-1.new": 2 * time.Hour, ".s-2.new": time.Minute,
		"other": 2 * time.Hour,
	} {
		file := filepath.Join(folder, name)
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, time.Time{}, time.Now().Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	check.Must(snapshot.Create(path, fixedRing(t), record.Meta{StoreID: "s", Partitions: 1}, snapshot.Backup))(t).Discard()
	if left := names(t, folder); len(left) != 2 {
		t.Errorf("left are %v", left)
	}
}

func TestUnwritableFolderIsAnError(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing", "s")
	if _, err := snapshot.Create(missing, fixedRing(t), record.Meta{StoreID: "s", Partitions: 1}, snapshot.Backup); err == nil {
		t.Error("no error")
	}
	if _, err := snapshot.Open(missing, fixedRing(t)); err == nil {
		t.Error("no error")
	}
}

// TestFileIsWrittenThroughALink: a link stays a link, and the readers of the file keep their access.
func TestFileIsWrittenThroughALink(t *testing.T) {
	ring, meta := fixedRing(t), record.Meta{StoreID: "s", Partitions: 1}
	folder := t.TempDir()
	link, real := filepath.Join(folder, "s"), filepath.Join(folder, "volume", "s")
	if err := errors.Join(os.Mkdir(filepath.Dir(real), 0o700), os.WriteFile(real, nil, 0o600), os.Chmod(real, 0o640),
		os.Symlink(real, link)); err != nil {
		t.Fatal(err)
	}
	f := check.Must(snapshot.Create(link, ring, meta, snapshot.OfReplica))(t)
	for _, c := range filled(t, ring, meta, 1, 2) {
		if err := f.Replica(c); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Commit(); err != nil {
		t.Fatal(err)
	}
	if info := check.Must(os.Lstat(real))(t); info.Mode() != 0o640 || info.Size() == 0 {
		t.Errorf("%v, %d bytes", info.Mode(), info.Size())
	}
	if to := check.Must(os.Readlink(link))(t); to != real {
		t.Errorf("the link leads to %s", to)
	}
}
