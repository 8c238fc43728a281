package redisfeed_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	"github.com/countersign/countersign/pkg/testkit/storetest"
)

// slotOf returns the slot of a key.
func slotOf(t testing.TB, c *redistest.Cluster, key string) int {
	t.Helper()
	slot, err := c.Servers[0].Do("CLUSTER", "KEYSLOT", key)
	if err != nil {
		t.Fatal(err)
	}
	return int(slot.(int64))
}

// otherMaster returns a master that does not have a slot.
func otherMaster(c *redistest.Cluster, slot int) *redistest.Server {
	has := c.MasterOf(slot)
	for _, s := range c.Masters() {
		if s != has {
			return s
		}
	}
	return nil
}

// TestReadersFollowAMovingSlot: a slot moves key by key and as a whole, there and back. Only a scan fails,
// and the next scan succeeds. No read leaves anything out.
func TestReadersFollowAMovingSlot(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, 2, 0)
	g := group{c.Servers, c.URLFor, 0}
	k := g.fill(t, 4)
	const partition, apps = 2, 600
	for i := range apps {
		k.store.Commit(k.store.App(partition, i), storetest.AddToken("a"))
	}
	feed := k.feed(t, c.URL())
	var loops sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	defer loops.Wait()
	defer stop()
	scans := 0
	for name, read := range map[string]func(ctx context.Context) error{
		"Heads": func(ctx context.Context) error {
			if err := readAll(feed)(ctx); err != nil {
				return err
			}
			heads, err := feed.Heads(ctx)
			if err == nil && !bytes.Equal(heads[partition].Raw, k.store.RawHead(partition)) {
				return fmt.Errorf("the head is %q, %w", heads[partition].Raw, heads[partition].Err)
			}
			return err
		},
		"Tail": func(ctx context.Context) error {
			head, links, err := feed.Tail(ctx, partition, 0, 1000)
			if err == nil && (!bytes.Equal(head, k.store.RawHead(partition)) || len(links) != apps) {
				return fmt.Errorf("the head is %q with %d links", head, len(links))
			}
			return err
		},
		"Documents": func(ctx context.Context) error {
			found := map[string]bool{}
			err := feed.Documents(ctx, partition, func(app string, _ []byte) { found[app] = true })
			switch {
			case err == nil && len(found) != apps:
				return fmt.Errorf("%d documents", len(found))
			case err == nil:
				scans++
			case redisfeed.NotRun(err):
				return nil
			}
			return err
		},
	} {
		loops.Go(func() {
			for ctx.Err() == nil {
				if err := read(ctx); err != nil && ctx.Err() == nil {
					t.Errorf("%s: %v", name, err)
					return
				}
			}
		})
	}
	fresh := func(when string) {
		t.Helper()
		for name, feed := range map[string]*redisfeed.Feed{"the feed": feed, "a new one": k.feed(t, c.URL())} {
			if err := readAll(feed)(limited(t)); err != nil {
				t.Errorf("%s, heads of %s: %v", when, name, err)
			}
			if _, links, err := feed.Tail(limited(t), partition, 0, 1000); err != nil || len(links) != apps {
				t.Errorf("%s, tail of %s: %d links, %v", when, name, len(links), err)
			}
			found := 0
			if err := feed.Documents(limited(t), partition, func(string, []byte) { found++ }); err != nil || found < apps {
				t.Errorf("%s, documents of %s: %d, %v", when, name, found, err)
			}
		}
		if _, err := k.admin.Get(limited(t), record.KeysOf(partition).Head).Result(); err != nil {
			t.Errorf("%s, the embedded client: %v", when, err)
		}
		results, err := k.admin.Pipelined(limited(t), func(pipe redis.Pipeliner) error {
			for i := range 4 {
				pipe.Get(t.Context(), record.KeysOf(i).Head)
			}
			return nil
		})
		if err != nil || len(results) != 4 {
			t.Errorf("%s, a pipeline of the embedded client: %v", when, err)
		}
	}
	slot := slotOf(t, c, record.KeysOf(partition).Head)
	for round := range 2 {
		m := c.BeginMigration(slot, otherMaster(c, slot))
		fresh(fmt.Sprintf("round %d, migrating", round))
		for keys := 1; m.MoveKey(); keys++ {
			fresh(fmt.Sprintf("round %d, %d keys moved", round, keys))
		}
		m.Finish()
		fresh(fmt.Sprintf("round %d, moved", round))
	}
	stop()
	loops.Wait()
	if scans == 0 {
		t.Error("no scan came to its end")
	}
}

// TestWriterIsToldThatASlotMoves: a writer's command is not redirected silently, and NotRun recognises a
// command that was not run.
func TestWriterIsToldThatASlotMoves(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, 2, 0)
	client := open(t, c.URL())
	slot := slotOf(t, c, "{foo}")
	write := func(keys ...string) error {
		return client.OnMaster(limited(t), keys[0], func(connection *redis.Conn) error {
			return connection.Eval(t.Context(), "for _, key in ipairs(KEYS) do redis.call('SET', key, 'x') end return 'OK'",
				keys).Err()
		})
	}
	mustNot := func(what string, err error, kind string) {
		t.Helper()
		if !redisfeed.NotRun(err) || !redis.HasErrorPrefix(err, kind) {
			t.Errorf("%s: %v, want %s", what, err, kind)
		}
	}
	if err := write("{foo}1"); err != nil {
		t.Fatal(err)
	}
	m := c.BeginMigration(slot, otherMaster(c, slot))
	if err := write("{foo}1"); err != nil {
		t.Errorf("with all keys there: %v", err)
	}
	mustNot("with one key there, and one that does not exist", write("{foo}1", "{foo}2"), "TRYAGAIN")
	m.MoveKey()
	mustNot("with all keys moved", write("{foo}1"), "ASK")
	mustNot("with keys that do not exist", write("{foo}3", "{foo}4"), "ASK")
	m.Finish()
	mustNot("with the slot moved", write("{foo}1", "{foo}2"), "MOVED")
	if err := write("{foo}1", "{foo}2"); err != nil {
		t.Errorf("the second try: %v", err)
	}
	if n, err := client.Exists(limited(t), "{foo}1", "{foo}2", "{foo}3", "{foo}4").Result(); err != nil || n != 2 {
		t.Errorf("%d keys were written, %v", n, err)
	}
}

// TestStoppedMasterLeavesTheOthersReadable: its own partitions are readable again once a replica replaces it.
func TestStoppedMasterLeavesTheOthersReadable(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, 3, 1)
	g := group{c.Servers, c.URLFor, 1}
	k := g.fill(t, 64)
	feed := k.feed(t, c.URL())
	if err := readAll(feed)(limited(t)); err != nil {
		t.Fatal(err)
	}
	slot := slotOf(t, c, record.KeysOf(0).Head)
	lost := c.MasterOf(slot)
	lost.Pause()
	began := time.Now()
	for time.Since(began) < time.Second {
		asked := time.Now()
		heads, err := feed.Heads(limited(t))
		if err != nil {
			t.Fatalf("no head was read: %v", err)
		}
		check.Within(t, "Heads", time.Since(asked), 4*time.Second, 20*time.Second)
		good := 0
		for _, head := range heads {
			if head.Err == nil {
				good++
			}
		}
		if good < 40 || good == 64 {
			t.Errorf("%d heads were read with one of three masters gone", good)
		}
	}
	c.AwaitOther(lost, slot)
	eventually(t, "reading all", 3*time.Second, readAll(feed))
	lost.Resume()
	c.AwaitStable()
	if err := readAll(feed)(limited(t)); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}
