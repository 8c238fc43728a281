package redisfeed_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	"github.com/countersign/countersign/pkg/testkit/storetest"
)

// TestFeedFollowsAFailover under Sentinel: polls, log reads, scans, hints and a writer's connection all use
// the new master.
func TestFeedFollowsAFailover(t *testing.T) {
	t.Parallel()
	r := redistest.StartReplicated(t, 1)
	g := group{r.Servers, r.URLFor, 1}
	k := g.fill(t, 4)
	k.store.Commit(k.store.App(2, 0), storetest.AddToken("before"))
	feed := k.feed(t, r.URL())
	w := watch(t, feed)
	k.hear(t, w, 2)
	lost := r.Master()
	replicated(t, r)
	lost.Stop()
	began := time.Now()
	if at, err := w.wait(t); err == nil || at.Sub(began) > 6*time.Second {
		t.Errorf("Watch ended after %v with %v", at.Sub(began), err)
	}
	master := r.AwaitOther(lost)
	eventually(t, "reading the new master", 5*time.Second, readAll(feed))
	eventually(t, "asking the new master", 5*time.Second, func(ctx context.Context) error { return k.admin.Ping(ctx).Err() })
	k.store.Commit(k.store.App(2, 0), storetest.AddToken("after"))
	if _, links, err := feed.Tail(limited(t), 2, 0, 500); err != nil || len(links) != len(k.store.Log(2)) {
		t.Errorf("Tail: %d links, %v", len(links), err)
	}
	if err := feed.Documents(limited(t), 2, func(string, []byte) {}); err != nil {
		t.Errorf("Documents: %v", err)
	}
	k.hear(t, watch(t, feed), 2)
	var port string
	if err := k.admin.OnMaster(limited(t), "key", func(c *redis.Conn) error {
		info, err := c.Info(t.Context(), "server").Result()
		for line := range strings.Lines(info) {
			if value, ok := strings.CutPrefix(line, "tcp_port:"); ok {
				port = strings.TrimSpace(value)
			}
		}
		return err
	}); err != nil || !strings.HasSuffix(master.Address(), ":"+port) {
		t.Errorf("OnMaster went to port %s, and the master is %s: %v", port, master.Address(), err)
	}
}

// replicated returns when the replicas have everything that the master has.
func replicated(t testing.TB, r *redistest.Replicated) {
	t.Helper()
	check.Eventually(t, "replication", func() error {
		offset := r.Master().Info("replication")["master_repl_offset"]
		for _, s := range r.Replicas() {
			if got := s.Info("replication")["slave_repl_offset"]; got != offset {
				return fmt.Errorf("%s of %s", got, offset)
			}
		}
		return nil
	})
}

// TestDeposedMasterDoesNotPassForFresh: a master is stopped, replaced, and goes on without knowing. With a
// write quorum no reader accepts its answers. Without a quorum they are accepted until the sentinels name the
// new master.
func TestDeposedMasterDoesNotPassForFresh(t *testing.T) {
	t.Parallel()
	r := redistest.StartReplicated(t, 1)
	g := group{r.Servers, r.URLFor, 1}
	k := g.fill(t, 1)
	key := record.KeysOf(0).Head
	deposed := r.Master()
	replicated(t, r)
	feeds := map[string]*redisfeed.Feed{
		"under Sentinel, with a quorum":   k.feedWith(t, r.URL(), 1),
		"of this server, with a quorum":   k.feedWith(t, deposed.URL(), 1),
		"new, of this server, a quorum":   nil, // made when it goes on
		"of this server, without quorum":  k.feedWith(t, deposed.URL(), 0),
		"new, of this server, no quorum ": nil,
	}
	for name, feed := range feeds {
		if feed != nil {
			if err := readAll(feed)(t.Context()); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
	w := watch(t, feeds["under Sentinel, with a quorum"])
	k.hear(t, w, 0)
	old := string(k.store.RawHead(0))
	deposed.Pause()
	master := r.AwaitOther(deposed)
	// Polls find the new master. Then nobody waits for the old one, although connections to it are open.
	eventually(t, "polling the new master", 8*time.Second, readAll(redisfeed.New(k.admin, 1)))
	eventually(t, "the embedded client", 5*time.Second, func(ctx context.Context) error { return k.admin.Ping(ctx).Err() })
	eventually(t, "a connection to the master", 5*time.Second, func(ctx context.Context) error {
		return k.admin.OnMaster(ctx, key, func(c *redis.Conn) error { return c.Ping(ctx).Err() })
	})
	if _, err := master.Do("SET", key, "new head"); err != nil {
		t.Fatal(err)
	}
	feeds["new, of this server, a quorum"] = k.feedWith(t, deposed.URL(), 1)
	feeds["new, of this server, no quorum "] = k.feedWith(t, deposed.URL(), 0)
	believed := map[string]*atomic.Int64{}
	// All feeds are asking when the deposed master goes on.
	ended, asking := make(chan struct{}), make(chan struct{}, len(feeds))
	for name, feed := range feeds {
		believed[name] = &atomic.Int64{}
		go func() {
			defer func() { ended <- struct{}{} }()
			asking <- struct{}{}
			for began := time.Now(); time.Since(began) < 2*time.Second; {
				heads, err := feed.Heads(context.Background())
				if err == nil && heads[0].Err == nil && string(heads[0].Raw) == old {
					believed[name].Add(1)
				}
				head, _, err := feed.Tail(context.Background(), 0, 0, 1)
				if err == nil && string(head) == old {
					believed[name].Add(1)
				}
			}
		}()
	}
	for range feeds {
		<-asking
	}
	deposed.Resume()
	for range feeds {
		<-ended
	}
	for name, count := range believed {
		if n := count.Load(); strings.Contains(name, "a quorum") != (n == 0) {
			t.Errorf("%s: an old head was believed %d times", name, n)
		}
	}
	eventually(t, "reading with a quorum", 20*time.Second, readAll(feeds["under Sentinel, with a quorum"]))
}

// TestMasterThatIsCutOffFromItsReplicasIsNotBelievedForLong: its answers are rejected within seconds, long
// before it notices that they are away, and until they are back.
func TestMasterThatIsCutOffFromItsReplicasIsNotBelievedForLong(t *testing.T) {
	t.Parallel()
	r := patient.StartReplicated(t, 1)
	g := group{r.Servers, r.URLFor, 1}
	k := g.fill(t, 1)
	master := r.Master()
	direct := k.feedWith(t, master.URL(), 1)
	if err := readAll(direct)(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := readAll(k.feedWith(t, master.URL(), 2))(t.Context()); !errors.Is(err, redisfeed.ErrNotProven) {
		t.Errorf("one replica, and two wanted: %v", err)
	}
	master.Proxy().BlackHole()
	eventually(t, "doubt", 5*time.Second, func(ctx context.Context) error {
		if err := readAll(direct)(ctx); !errors.Is(err, redisfeed.ErrNotProven) {
			return fmt.Errorf("heads: %w", err)
		}
		if _, _, err := direct.Tail(ctx, 0, 0, 1); !errors.Is(err, redisfeed.ErrNotProven) {
			return fmt.Errorf("tail: %w", err)
		}
		return nil
	})
	if state := master.Info("replication")["slave0"]; !strings.Contains(state, "state=online") {
		t.Errorf("the master has noticed by itself: %s", state)
	}
	master.Proxy().Restore()
	eventually(t, "trust", 5*time.Second, readAll(direct))
}
