package redisfeed_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	"github.com/countersign/countersign/pkg/testkit/storetest"
)

func TestHeadsAreThoseOfAllPartitions(t *testing.T) {
	k := start(t, 64)
	k.store.Commit(k.store.App(7, 0), storetest.AddToken("a"))
	gone := record.KeysOf(9).Head
	if err := k.admin.Del(t.Context(), gone).Err(); err != nil {
		t.Fatal(err)
	}
	heads, err := k.feed(t, k.server.URL()).Heads(limited(t))
	if err != nil || len(heads) != 64 {
		t.Fatalf("%d heads, %v", len(heads), err)
	}
	for partition, read := range heads {
		if partition == 9 {
			if read.Raw != nil || read.Err != nil {
				t.Errorf("a missing head is %q, %v; want nil", read.Raw, read.Err)
			}
			continue
		}
		if head, err := k.store.Codec().OpenHead(partition, read.Raw); err != nil ||
			head.Cursor != k.store.Head(partition).Cursor {
			t.Errorf("head %d: %v, %v", partition, head.Cursor, err)
		}
	}
	// A key of another type in place of a head is an invalid head, and affects no other partition.
	if err := k.admin.HSet(t.Context(), gone, "field", "value").Err(); err != nil {
		t.Fatal(err)
	}
	heads, err = k.feed(t, k.server.URL()).Heads(limited(t))
	if err != nil || len(heads) != 64 || len(heads[9].Raw) != 0 || heads[9].Raw == nil ||
		!bytes.Equal(heads[8].Raw, k.store.RawHead(8)) || !bytes.Equal(heads[10].Raw, k.store.RawHead(10)) {
		t.Errorf("with a hash for a head: %d heads, the hash as %+v, %v", len(heads), heads[9], err)
	}
}

func TestTailIsTheHeadAndTheLinksBehind(t *testing.T) {
	k := start(t, 2)
	app := k.store.App(1, 0)
	feed := k.feed(t, k.server.URL())
	if head, links, err := feed.Tail(limited(t), 1, 0, 10); err != nil || len(links) != 0 || head == nil {
		t.Errorf("without a log: head %q, %d links, %v", head, len(links), err)
	}
	for i := range 12 {
		k.store.Commit(app, storetest.AddToken(fmt.Sprint(i)))
	}
	log := k.store.Log(1)
	for _, tt := range []struct {
		after uint64
		limit int
		want  []int // indices of the log
	}{
		{0, 500, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}},
		{0, 3, []int{0, 1, 2}},
		{1, 2, []int{1, 2}},
		{10, 500, []int{10, 11}},
		{11, 1, []int{11}},
		{12, 500, nil},
		{1<<64 - 1, 500, nil},
	} {
		head, links, err := feed.Tail(limited(t), 1, tt.after, tt.limit)
		if err != nil || !bytes.Equal(head, k.store.RawHead(1)) || len(links) != len(tt.want) {
			t.Errorf("after %d, %d at most: %d links, %v", tt.after, tt.limit, len(links), err)
			continue
		}
		for i, index := range tt.want {
			if links[i].Revision != log[index].Revision || !bytes.Equal(links[i].Data, log[index].Data) {
				t.Errorf("after %d, %d at most: link %d is another", tt.after, tt.limit, i)
			}
		}
	}
	// An entry that is not a link is passed on as invalid, for the replica to reject. An entry whose id no
	// revision can have is left out.
	key := record.KeysOf(1).Log
	for _, args := range [][]any{{"XADD", key, "13-0", "x", "y"}, {"XADD", key, "13-7", "l", "", "l", "z"}} {
		if err := k.admin.Do(t.Context(), args...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if _, links, err := feed.Tail(limited(t), 1, 12, 10); err != nil || len(links) != 1 || links[0].Revision != 13 ||
		len(links[0].Data) != 0 {
		t.Errorf("foreign entries: %v, %v", links, err)
	}
	if err := k.admin.Del(t.Context(), record.KeysOf(1).Head).Err(); err != nil {
		t.Fatal(err)
	}
	if head, links, err := feed.Tail(limited(t), 1, 0, 1); err != nil || head != nil || len(links) != 1 {
		t.Errorf("without a head: head %q, %d links, %v", head, len(links), err)
	}
}

// TestDocumentsOfALargeHashAreAllThere, also while it grows and its documents change. Redis keeps a hash with
// more than 512 fields, or with values above 64 bytes, as a table, and scans it piece by piece.
func TestDocumentsOfALargeHashAreAllThere(t *testing.T) {
	k := start(t, 1)
	const apps = 1500
	for i := range apps {
		k.store.Commit(k.store.App(0, i), storetest.AddToken("first"))
	}
	if encoding := k.admin.ObjectEncoding(t.Context(), record.KeysOf(0).Policies).Val(); encoding != "hashtable" {
		t.Fatalf("the hash is a %s", encoding)
	}
	found := map[string]uint64{}
	changed := 0
	err := k.feed(t, k.server.URL()).Documents(limited(t), 0, func(app string, raw []byte) {
		_, cursor, err := k.store.Codec().OpenPolicy(app, raw)
		if err != nil {
			t.Errorf("%s: %v", app, err)
		}
		if cursor.Revision < found[app] {
			t.Errorf("%s goes back from %d to %d", app, found[app], cursor.Revision)
		}
		found[app] = cursor.Revision
		// The hash grows to twice its size during the scan, so that Redis moves it to a larger table.
		if changed < apps {
			k.store.Commit(k.store.App(0, changed), storetest.AddToken("second"))
			k.store.Commit(k.store.App(0, apps+changed), storetest.AddToken("new"))
			changed++
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if changed < apps {
		t.Errorf("only %d changes during the scan", changed)
	}
	for i := range apps {
		if found[k.store.App(0, i)] == 0 {
			t.Errorf("%s is missing", k.store.App(0, i))
		}
	}
}

// TestScansLeaveRoomForOtherReads, however many scans there are, and however long they take.
func TestScansLeaveRoomForOtherReads(t *testing.T) {
	k := start(t, 64)
	feed := k.feed(t, k.server.URL())
	for partition := range 64 {
		k.store.Commit(k.store.App(partition, 0), storetest.AddToken("a"))
	}
	release := make(chan struct{})
	var scans sync.WaitGroup
	var begun atomic.Int64
	for partition := range 64 {
		scans.Go(func() {
			if err := feed.Documents(limited(t), partition, func(string, []byte) { begun.Add(1); <-release }); err != nil {
				t.Errorf("scan %d: %v", partition, err)
			}
		})
	}
	check.Eventually(t, "scans", func() error {
		if n := begun.Load(); n < redisfeed.MaxScans {
			return fmt.Errorf("%d have begun", n)
		}
		return nil
	})
	waiting, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := feed.Documents(waiting, 0, func(string, []byte) {}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a scan that has no time to wait: %v", err)
	}
	for partition := range 64 {
		began := time.Now()
		if _, _, err := feed.Tail(limited(t), partition, 0, 1); err != nil {
			t.Errorf("tail %d: %v", partition, err)
		}
		check.Within(t, "Tail", time.Since(began), 5*time.Second, 20*time.Second)
	}
	close(release)
	scans.Wait()
	if n := begun.Load(); n != 64 {
		t.Errorf("%d documents, want 64", n)
	}
}

func TestDocumentsOfAnEmptyPartitionAreNone(t *testing.T) {
	k := start(t, 1)
	if err := k.feed(t, k.server.URL()).Documents(limited(t), 0,
		func(app string, _ []byte) { t.Errorf("found %s", app) }); err != nil {
		t.Error(err)
	}
}

// TestScanThatLosesItsConnectionFails instead of continuing on another server, for which its cursor means
// nothing.
func TestScanThatLosesItsConnectionFails(t *testing.T) {
	k := start(t, 1)
	for i := range 600 {
		k.store.Commit(k.store.App(0, i), storetest.AddToken("first"))
	}
	proxy := redistest.NewProxy(t, k.server.Address())
	feed := k.feed(t, proxy.URL())
	if _, err := feed.Heads(limited(t)); err != nil { // a second connection is in the pool
		t.Fatal(err)
	}
	var found atomic.Int64
	err := feed.Documents(limited(t), 0, func(string, []byte) {
		if found.Add(1) == 150 {
			proxy.Cut()
		}
	})
	if err == nil {
		t.Errorf("succeeded with %d of 600 documents, over a connection that was cut", found.Load())
	}
	// The next one has a connection of its own.
	found.Store(0)
	if err := feed.Documents(limited(t), 0, func(string, []byte) { found.Add(1) }); err != nil || found.Load() < 600 {
		t.Errorf("%d documents, %v", found.Load(), err)
	}
}

// TestReadsEnd: when Redis does not answer, reads end within the timeouts and with their context.
func TestReadsEnd(t *testing.T) {
	k := start(t, 2)
	feed := k.feed(t, k.server.URL())
	if _, err := feed.Heads(limited(t)); err != nil {
		t.Fatal(err)
	}
	k.server.Pause()
	defer k.server.Resume()
	reads := map[string]func(ctx context.Context) error{
		"Heads":     func(ctx context.Context) error { _, err := feed.Heads(ctx); return err },
		"Tail":      func(ctx context.Context) error { _, _, err := feed.Tail(ctx, 0, 0, 1); return err },
		"Documents": func(ctx context.Context) error { return feed.Documents(ctx, 0, func(string, []byte) {}) },
	}
	for name, read := range reads {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		began := time.Now()
		if err := read(ctx); err == nil {
			t.Errorf("%s with a deadline: no error", name)
		}
		check.Within(t, name+" with a deadline", time.Since(began), 1900*time.Millisecond, 1900*time.Millisecond)
		cancel()
	}
	began := time.Now()
	if err := reads["Heads"](t.Context()); err == nil {
		t.Error("Heads without a deadline: no error")
	}
	check.Within(t, "Heads without a deadline", time.Since(began), 10*time.Second, 25*time.Second)
}

func TestMetaTellsAStoreFromNone(t *testing.T) {
	server := redistest.Start(t)
	client := open(t, server.URL())
	ring := keyring.Generate()
	if _, err := client.Meta(limited(t), ring); !errors.Is(err, redisfeed.ErrNotInitialised) {
		t.Errorf("an empty Redis: %v", err)
	}
	store := storetest.New(t, 3)
	store.CopyTo(client)
	if meta, err := client.Meta(limited(t), store.Ring()); err != nil || meta.StoreID != store.Meta().StoreID ||
		meta.Partitions != 3 {
		t.Errorf("%+v, %v", meta, err)
	}
	if _, err := client.Meta(limited(t), ring); !errors.Is(err, keyring.ErrUnknownKey) ||
		!strings.Contains(err.Error(), record.MetaKey) {
		t.Errorf("with the keys of another store: %v", err)
	}
	if err := client.Set(t.Context(), record.MetaKey, "garbage", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Meta(limited(t), store.Ring()); !errors.Is(err, record.ErrMalformed) {
		t.Errorf("garbage: %v", err)
	}
	server.Stop()
	if _, err := client.Meta(limited(t), store.Ring()); err == nil || errors.Is(err, redisfeed.ErrNotInitialised) {
		t.Errorf("a Redis that is down: %v", err)
	}
}
