package snapshot_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/snapshot"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestReadsWhatWasWritten(t *testing.T) {
	ring := fixedRing(t)
	file, want := smallReplica(t, ring)
	r := check.Must(snapshot.NewReader(bytes.NewReader(file), ring))(t)
	if r.Kind() != snapshot.OfReplica || r.Meta().StoreID != "replica" || r.Meta().Partitions != 3 ||
		time.Since(r.CreateTime()) > time.Minute {
		t.Errorf("header: %v, %+v, %v", r.Kind(), r.Meta(), r.CreateTime())
	}
	got, _, err := read(bytes.NewReader(file), ring)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v\n%+v\nwant\n%+v", err, got, want)
	}
	backup, wrote := smallBackup(t, ring, 300<<10)
	_, heard, err := read(bytes.NewReader(backup), ring)
	if err != nil || !slices.Equal(heard, wrote) {
		t.Errorf("%v\n%v\nwant\n%v", err, heard, wrote)
	}
}

// TestReplicaGoesOnFromAFile: a replica that imports a file has the data of the exporting one, and continues
// from it.
func TestReplicaGoesOnFromAFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.New(t, 4)
		app := s.App(2, 0)
		s.Commit(app, storetest.AddToken("a", 1), storetest.AddToken("b", 1), storetest.Enforce(1))
		s.Commit(app, storetest.SetState("b", policy.Revoked))
		s.Commit(s.App(1, 0), storetest.AddToken("c"))
		first := newReplica(s)
		stop := run(t, first)
		if err := first.WaitLoaded(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		var all []replica.Contents
		for i := range 4 {
			c, loaded := first.Export(i)
			if !loaded {
				t.Fatal("not loaded")
			}
			all = append(all, c)
		}
		stop()
		var file bytes.Buffer
		writeReplica(t, &file, s.Ring(), s.Meta(), all)

		s.Fail(storetest.Faults{Down: errors.New("down")})
		second := newReplica(s)
		if err := check.Must(snapshot.NewReader(&file, s.Ring()))(t).Replicas(second.Import); err != nil {
			t.Fatal(err)
		}
		defer run(t, second)()
		if err := second.WaitLoaded(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got, want := second.Cursors(), first.Cursors(); !slices.Equal(got, want) {
			t.Errorf("cursors %v, want %v", got, want)
		}
		entry := second.Table().Find(app).Entry()
		if b := entry.Policy.Tokens()[1]; b.ID != "b" || b.State != policy.Revoked {
			t.Errorf("%+v", b)
		}
		s.Fail(storetest.Faults{})
		made := s.Commit(app, storetest.AddToken("d"))
		if err := second.Reach(t.Context(), 2, made.Cursor); err != nil {
			t.Error(err)
		}
		if n := s.Calls().Documents; slices.Max(n) > 1 {
			t.Errorf("loaded anew: %v", n)
		}
	})
}

// run runs a replica until the returned function is called.
func run(t *testing.T, r *replica.Replica) (stop func()) {
	t.Helper()
	return runUntil(t, r.Run)
}

// frames returns the records of a file, each with its length prefix.
func frames(file []byte) (begin []byte, records [][]byte) {
	begin, rest := file[:8], file[8:]
	for len(rest) > 0 {
		n := 4 + binary.BigEndian.Uint32(rest)
		records, rest = append(records, rest[:n:n]), rest[n:]
	}
	return begin, records
}

func join(begin []byte, records ...[]byte) []byte {
	return append(bytes.Clone(begin), bytes.Join(records, nil)...)
}

// TestTouchedFileIsRefused, with an error that says what is wrong.
func TestTouchedFileIsRefused(t *testing.T) {
	ring := fixedRing(t)
	file, _ := smallReplica(t, ring)
	again, _ := smallReplica(t, ring)
	backup, _ := smallBackup(t, ring, 100)
	begin, r := frames(file)
	_, others := frames(again)
	_, backups := frames(backup)
	if len(r) != 5 {
		t.Fatalf("%d records, want a header, three partitions and the end", len(r))
	}
	otherKey := check.Must(keyring.Parse([]byte(
		`{"current":"a","keys":{"a":"AQECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}}`)))(t)
	for _, tt := range []struct {
		name string
		file []byte
		ring *keyring.Ring
		want string
	}{
		{"nothing", nil, ring, "not a snapshot file"},
		{"another form", []byte(`{"current": "a"}`), ring, "not a snapshot file"},
		{"another version", append([]byte("CSSNAP\n\x02"), file[8:]...), ring, "not a snapshot file"},
		{"only the magic", begin, ring, "is cut: it ends in record 0"},
		{"another key of the same name", file, otherKey, "the header: record file-header: keyring: MAC does not match"},
		{"another key ring", file, keyring.Generate(), "unknown key"},
		{"end missing", join(begin, r[:4]...), ring, "is cut: it ends in record 4"},
		{"cut in a record", file[:len(file)-1], ring, "is cut: it ends in record 4"},
		{"cut in a length", join(begin, r[0], r[1], r[2][:2]), ring, "is cut: it ends in record 2"},
		{"something behind", append(bytes.Clone(file), 0), ring, "something follows the end"},
		{"the same again behind", append(bytes.Clone(file), file...), ring, "something follows the end"},
		{"record left out", join(begin, r[0], r[1], r[3], r[4]), ring, "record 2: record file-record: keyring: MAC"},
		{"record repeated", join(begin, r[0], r[1], r[1], r[2], r[3], r[4]), ring, "record 2: record file-record: keyring: MAC"},
		{
			"records in another order", join(begin, r[0], r[2], r[1], r[3], r[4]), ring,
			"record 1: record file-record: keyring: MAC",
		},
		{
			"record of another file of the store", join(begin, r[0], r[1], others[2], r[3], r[4]), ring,
			"record 2: record file-record: keyring: MAC",
		},
		{
			"header of another file", join(begin, others[0], r[1], r[2], r[3], r[4]), ring,
			"record 1: record file-record: keyring: MAC",
		},
		{
			"end of another file", join(begin, r[0], r[1], r[2], r[3], others[4]), ring,
			"record 4: record file-record: keyring: MAC",
		},
		{"two headers", join(begin, r[0], r[0], r[1], r[2], r[3], r[4]), ring, "record 1: record file-record: keyring: MAC"},
		{
			"record of a backup", join(begin, r[0], backups[1], r[2], r[3], r[4]), ring,
			"record 1: record file-record: keyring: MAC",
		},
		{
			"a length beyond all bounds", join(begin, r[0], []byte{0xff, 0xff, 0xff, 0xff}), ring,
			"record 1: a length of 4294967295 bytes",
		},
		{"a length beyond the file", join(begin, r[0], []byte{0, 0xff, 0xff, 0xff}), ring, "is cut: it ends in record 1"},
		{"an empty record", join(begin, r[0], []byte{0, 0, 0, 0}), ring, "record 1: record: malformed file-record: too short"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, _, err := read(bytes.NewReader(tt.file), tt.ring); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

func TestFileWithAnyByteChangedOrCutIsRefused(t *testing.T) {
	ring := fixedRing(t)
	replicas, _ := smallReplica(t, ring)
	backup, _ := smallBackup(t, ring, 100)
	for name, file := range map[string][]byte{"replica": replicas, "backup": backup} {
		for i := range file {
			flipped := bytes.Clone(file)
			flipped[i] ^= 1 << (i % 8)
			if _, _, err := read(bytes.NewReader(flipped), ring); err == nil {
				t.Errorf("%s: bit %d of byte %d flipped: no error", name, i%8, i)
			}
			if _, _, err := read(bytes.NewReader(file[:i]), ring); err == nil {
				t.Errorf("%s: cut to %d bytes: no error", name, i)
			}
		}
	}
}

func TestKindsAreToldApart(t *testing.T) {
	ring := fixedRing(t)
	replicas, _ := smallReplica(t, ring)
	backup, _ := smallBackup(t, ring, 100)
	err := check.Must(snapshot.NewReader(bytes.NewReader(backup),
		ring))(t).Replicas(func(replica.Contents) error { return nil })
	if err == nil || err.Error() != "this file is a backup, want a validator's snapshot" {
		t.Error(err)
	}
	err = check.Must(snapshot.NewReader(bytes.NewReader(replicas), ring))(t).Backup(&heard{})
	if err == nil || err.Error() != "this file is a validator's snapshot, want a backup" {
		t.Error(err)
	}
}

// TestWriterWritesOnlyWholeStores: all partitions, in order.
func TestWriterWritesOnlyWholeStores(t *testing.T) {
	ring := fixedRing(t)
	meta := record.Meta{StoreID: "s", Partitions: 2}
	for name, write := range map[string]func(*snapshot.Writer) error{
		"none":       func(w *snapshot.Writer) error { return w.Close() },
		"one":        func(w *snapshot.Writer) error { return errors.Join(w.Partition(0, nil), w.Close()) },
		"the second": func(w *snapshot.Writer) error { return w.Partition(1, nil) },
		"twice":      func(w *snapshot.Writer) error { return errors.Join(w.Partition(0, nil), w.Partition(0, nil)) },
		"a third": func(w *snapshot.Writer) error {
			return errors.Join(w.Partition(0, nil), w.Partition(1, nil), w.Partition(2, nil))
		},
		"another kind": func(w *snapshot.Writer) error { return w.Replica(replica.Contents{}) },
	} {
		w := check.Must(snapshot.NewWriter(&bytes.Buffer{}, ring, meta, snapshot.Backup))(t)
		if write(w) == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for _, bad := range []record.Meta{{}, {StoreID: "s"}, {StoreID: "s", Partitions: record.MaxPartitions + 1}} {
		if _, err := snapshot.NewWriter(&bytes.Buffer{}, ring, bad, snapshot.Backup); err == nil {
			t.Errorf("%+v: no error", bad)
		}
	}
}

func TestErrorOfAReceiverEndsTheReading(t *testing.T) {
	ring := fixedRing(t)
	file, _ := smallReplica(t, ring)
	failed, calls := errors.New("failed"), 0
	err := check.Must(snapshot.NewReader(bytes.NewReader(file),
		ring))(t).Replicas(func(replica.Contents) error { calls++; return failed })
	if !errors.Is(err, failed) || calls != 1 {
		t.Errorf("%v after %d calls", err, calls)
	}
}

// FuzzOpenSnapshot: a file reads exactly as it was written, or not at all.
func FuzzOpenSnapshot(f *testing.F) {
	ring, good := fixedRing(f), golden(f, "v1.snapshot")
	begin, records := frames(good)
	for _, seed := range [][]byte{nil, begin, good, good[:len(good)/2], join(begin, records[0], records[2])} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		if _, _, err := read(bytes.NewReader(file), ring); err == nil && !bytes.Equal(file, good) {
			t.Error("a file was read that nobody has written")
		}
	})
}
