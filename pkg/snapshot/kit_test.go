package snapshot_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/pkg/snapshot"
	"github.com/countersign/countersign/pkg/table"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/storetest"
)

// fixedRing returns the same key ring each time, so that a fuzzer's findings can be repeated.
func fixedRing(t testing.TB) *keyring.Ring {
	t.Helper()
	return check.Must(keyring.Parse([]byte(`{"current":"a","keys":{"a":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}}`)))(t)
}

// filled returns contents of all partitions: apps with tokens. The first app of each partition has a sticky
// revocation. The second has no policy that could be verified.
func filled(t testing.TB, ring *keyring.Ring, meta record.Meta, apps, tokens int) []replica.Contents {
	t.Helper()
	codec := record.NewCodec(ring, meta)
	all := make([]replica.Contents, meta.Partitions)
	for i := range all {
		at := record.Cursor{Epoch: 2, Revision: 1 << 20, Tag: record.NewTag()}
		all[i] = replica.Contents{
			Partition: i, Cursor: at, Confirmed: at, Base: at, Forks: []record.Cursor{{Epoch: 1, Revision: 7, Tag: record.NewTag()}},
			VerifyTime: time.UnixMilli(1_700_000_000_000 + int64(i)),
		}
	}
	for n := range apps {
		id := fmt.Sprintf("app%09d", n)
		c := &all[codec.PartitionOf(id)]
		entry := &table.Entry{Policy: policyOf(t, id, tokens), Revision: uint64(n + 1), PolicyRevision: uint64(n + 1)}
		switch len(c.Apps) {
		case 0:
			memory := policy.Memory{}.With(policy.Token{Digest: secret.DigestOf(id + "/gone"), Imported: true})
			entry.Policy = check.Must(policy.NewWithMemory(entry.Policy.Enforcement(), entry.Policy.Tokens(), false, memory))(t)
			kept := entry.Policy.Tokens()[0]
			kept.State = policy.Revoked
			c.Sticky = append(c.Sticky, replica.Sticky{AppID: id, Token: kept})
		case 1:
			*entry = table.Entry{Revision: uint64(n + 1), Since: time.UnixMilli(1_700_000_000_000)}
		}
		c.Sum = codec.Add(c.Sum, c.Partition, id, entry.Revision)
		c.Apps = append(c.Apps, replica.App{ID: id, Entry: entry})
	}
	return all
}

func policyOf(t testing.TB, id string, tokens int) *policy.Policy {
	t.Helper()
	list := make([]policy.Token, tokens)
	for i := range list {
		list[i] = policy.Token{
			ID: fmt.Sprintf("tok_%016d", i), Digest: secret.Digest(sha256.Sum256(fmt.Appendf(nil, "%s/%d", id, i))),
			Scopes: policy.ScopeSet(2 << (i % 4)), State: policy.State(1 + i%3),
		}
		if i%5 == 4 {
			list[i].ExpireMillis, list[i].Imported = 1_800_000_000_000+int64(i), true
		}
	}
	return check.Must(policy.New(policy.Enforcement{Scopes: 2, TrialEndMillis: 5, After: 4}, list, false))(t)
}

func writeReplica(t testing.TB, out io.Writer, ring *keyring.Ring, meta record.Meta, all []replica.Contents) {
	t.Helper()
	w := check.Must(snapshot.NewWriter(out, ring, meta, snapshot.OfReplica))(t)
	for _, c := range all {
		if err := w.Replica(c); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// read reads a whole file of either kind.
func read(in io.Reader, ring *keyring.Ring) (all []replica.Contents, backup heard, err error) {
	r, err := snapshot.NewReader(in, ring)
	if err != nil {
		return nil, backup, err
	}
	if r.Kind() == snapshot.Backup {
		return nil, backup, r.Backup(&backup)
	}
	err = r.Replicas(func(c replica.Contents) error { all = append(all, c); return nil })
	return all, backup, err
}

// heard is a sink that records what it gets.
type heard []string

func (h *heard) Partition(number int, head []byte) error {
	*h = append(*h, fmt.Sprintf("partition %d head %x %t", number, head, head == nil))
	return nil
}

func (h *heard) Document(appID string, raw []byte) error {
	*h = append(*h, fmt.Sprintf("document %s %x", appID, sha256.Sum256(raw)))
	return nil
}

func (h *heard) Entry(e record.RawEntry) error {
	*h = append(*h, fmt.Sprintf("entry %d %x %t", e.Revision, e.Data, e.EpochStart))
	return nil
}

func (h *heard) Audit(sequence uint64, raw []byte) error {
	*h = append(*h, fmt.Sprintf("audit %d %x", sequence, raw))
	return nil
}

// smallBackup returns a backup of two partitions, and its contents. One document has the given size.
func smallBackup(t testing.TB, ring *keyring.Ring, size int) ([]byte, heard) {
	t.Helper()
	meta := record.Meta{StoreID: "backup", Partitions: 2, CreateTime: time.UnixMilli(1)}
	var file bytes.Buffer
	var wrote heard
	w := check.Must(snapshot.NewWriter(&file, ring, meta, snapshot.Backup))(t)
	for _, to := range []snapshot.Sink{w, &wrote} {
		for _, err := range []error{
			to.Partition(0, []byte("head 0")), to.Document("a", []byte("document a")),
			to.Document("b", bytes.Repeat([]byte("b"), size)),
			to.Document("c", nil), to.Entry(record.RawEntry{Revision: 1, Data: []byte("link")}),
			to.Entry(record.RawEntry{Revision: 9, Data: []byte("start"), EpochStart: true}), to.Audit(1, []byte("row")),
			to.Partition(1, nil), to.Document("d", []byte("document d")),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return file.Bytes(), wrote
}

func smallReplica(t testing.TB, ring *keyring.Ring) ([]byte, []replica.Contents) {
	t.Helper()
	meta := record.Meta{StoreID: "replica", Partitions: 3, CreateTime: time.UnixMilli(1)}
	all := filled(t, ring, meta, 8, 2)
	all[1].Links, all[2].Orphans = [][]byte{[]byte("link 1"), []byte("link 2")}, [][]byte{[]byte("orphan")}
	var file bytes.Buffer
	writeReplica(t, &file, ring, meta, all)
	return file.Bytes(), all
}

func newReplica(s *storetest.Store) *replica.Replica {
	return replica.New(s, s.Codec(), slog.New(slog.DiscardHandler))
}
