package floorfile

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/record"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const partitions = 4

// fakeReplica has the confirmed positions that a test sets.
type fakeReplica struct {
	codec *record.Codec

	mu        sync.Mutex
	confirmed [partitions]record.Cursor
}

func (r *fakeReplica) Codec() *record.Codec { return r.codec }

func (r *fakeReplica) Confirmed(partition int) record.Cursor {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.confirmed[partition]
}

func (r *fakeReplica) confirm(partition int, at record.Cursor) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.confirmed[partition] = at
}

func at(epoch, revision uint64) record.Cursor {
	return record.Cursor{Epoch: epoch, Revision: revision, Tag: record.Tag{byte(epoch), byte(revision)}}
}

type kit struct {
	*Keeper
	replica *fakeReplica
	failed  int
	log     bytes.Buffer
}

func newKit(t *testing.T) *kit {
	k := &kit{replica: &fakeReplica{}}
	k.Keeper = &Keeper{
		Path: filepath.Join(t.TempDir(), "floor"), Ring: keyring.Generate(), Log: slog.New(slog.NewTextHandler(&k.log, nil)),
		Failed: func() { k.failed++ },
	}
	k.replica.codec = record.NewCodec(k.Ring, record.Meta{StoreID: "store", Partitions: partitions})
	return k
}

func (k *kit) want(t *testing.T, want ...record.Cursor) {
	t.Helper()
	floor, err := Read(k.Path, k.Ring)
	if err != nil || floor.StoreID != "store" || len(floor.Cursors) != partitions {
		t.Fatalf("%+v, %v", floor, err)
	}
	for i, c := range want {
		if floor.Cursors[i] != c {
			t.Errorf("partition %d: %s, want %s", i, floor.Cursors[i], c)
		}
	}
}

// TestFloorFileFollowsWithinItsLag: confirmed positions are in the file after Lag at the latest, and at the
// end. The file is written only when they changed.
func TestFloorFileFollowsWithinItsLag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		k.replica.confirm(1, at(1, 7))
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); k.Run(ctx, k.replica) }()
		synctest.Wait()
		k.want(t, record.Cursor{}, at(1, 7), record.Cursor{}, record.Cursor{})
		k.replica.confirm(1, at(1, 8))
		k.replica.confirm(3, at(2, 1))
		time.Sleep(Lag)
		synctest.Wait()
		k.want(t, record.Cursor{}, at(1, 8), record.Cursor{}, at(2, 1))

		if err := os.Remove(k.Path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * Lag)
		synctest.Wait()
		if _, err := Read(k.Path, k.Ring); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("nothing was confirmed, and it is written: %v", err)
		}
		k.replica.confirm(0, at(1, 1))
		stop()
		<-ended
		k.want(t, at(1, 1), at(1, 8), record.Cursor{}, at(2, 1))
	})
}

// TestFloorFileThatCannotBeWritten is counted at each attempt, and logged once.
func TestFloorFileThatCannotBeWritten(t *testing.T) {
	k := newKit(t)
	k.Path = filepath.Join(k.Path, "no such folder", "floor")
	k.replica.confirm(0, at(1, 1))
	k.save(k.replica)
	k.save(k.replica)
	if k.failed != 2 || strings.Count(k.log.String(), "cannot be written") != 1 {
		t.Errorf("%d failures: %s", k.failed, k.log.String())
	}
	if CheckFolder(k.Path) == nil {
		t.Error("the folder passes for one")
	}
}

// TestFloorFilesThatDoNotVerify: a changed, cut or foreign file is no floor file.
func TestFloorFilesThatDoNotVerify(t *testing.T) {
	k := newKit(t)
	k.replica.confirm(2, at(5, 9))
	k.save(k.replica)
	if info, err := os.Stat(k.Path); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	good, err := os.ReadFile(k.Path)
	if err != nil {
		t.Fatal(err)
	}
	refuse := func(what string, data []byte, words string) {
		t.Helper()
		path := filepath.Join(t.TempDir(), "other")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if floor, err := Read(path, k.Ring); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %+v, %v", what, floor, err)
		}
	}
	for i := range good {
		changed := bytes.Clone(good)
		changed[i] ^= 1
		refuse("a changed bit", changed, "")
	}
	refuse("cut", good[:len(good)-1], "damaged")
	refuse("empty", nil, "damaged")
	refuse("huge", make([]byte, maxSize+1), "bytes")
	if _, err := Read(k.Path, keyring.Generate()); err == nil || !strings.Contains(err.Error(), "key ring lacks") {
		t.Errorf("another key ring: %v", err)
	}
	if _, err := Read(k.Path+"x", k.Ring); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	// A signed record of another kind is no floor.
	meta, err := record.SealMeta(k.Ring, record.Meta{StoreID: "store", Partitions: partitions})
	if err != nil {
		t.Fatal(err)
	}
	refuse("a meta", meta, "no floor file")
}

// TestFileIsWrittenThroughALink: a symbolic link stays a link, also while its target is missing.
func TestFileIsWrittenThroughALink(t *testing.T) {
	k := newKit(t)
	real := filepath.Join(t.TempDir(), "floor")
	if err := os.Symlink(real, k.Path); err != nil {
		t.Fatal(err)
	}
	if err := CheckFolder(k.Path); err != nil {
		t.Error(err)
	}
	for revision := range uint64(2) {
		k.replica.confirm(0, at(1, revision+1))
		k.save(k.replica)
		k.want(t, at(1, revision+1))
		if to, err := os.Readlink(k.Path); err != nil || to != real {
			t.Errorf("the link leads to %q, %v", to, err)
		}
	}
}
