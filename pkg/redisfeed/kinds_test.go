package redisfeed_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	"github.com/countersign/countersign/pkg/testkit/storetest"
)

// group is a Redis of one of the three kinds.
type group struct {
	servers []*redistest.Server
	urlFor  func(user, password string) string
	// replicas is the number of replicas of each master.
	replicas int
}

// kinds start a Redis of each kind.
var kinds = map[string]func(t testing.TB, o redistest.Options) group{
	"one server": func(t testing.TB, _ redistest.Options) group {
		s := redistest.Start(t)
		url := func(user, password string) string { return redistest.URL(s.Address(), user, password) }
		return group{[]*redistest.Server{s}, url, 0}
	},
	"Sentinel": func(t testing.TB, o redistest.Options) group {
		r := o.StartReplicated(t, 1)
		return group{r.Servers, r.URLFor, 1}
	},
	"cluster": func(t testing.TB, o redistest.Options) group {
		c := o.StartCluster(t, 3, 1)
		return group{c.Servers, c.URLFor, 1}
	},
}

// everyKind runs a test with each kind in parallel.
func everyKind(t *testing.T, o redistest.Options, test func(t *testing.T, g group)) {
	t.Parallel()
	for name, start := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, start(t, o))
		})
	}
}

// fill puts a store into a group.
func (g group) fill(t testing.TB, partitions int) *kit {
	t.Helper()
	k := &kit{store: storetest.New(t, partitions)}
	k.admin = open(t, g.urlFor("", ""))
	k.store.CopyTo(k.admin)
	return k
}

// feedWith is feed with a write quorum.
func (k *kit) feedWith(t testing.TB, url string, quorum int) *redisfeed.Feed {
	t.Helper()
	return redisfeed.New(openWith(t, url, quorum), k.store.Meta().Partitions)
}

// hear commits until a hint arrives, since a subscription takes some time.
func (k *kit) hear(t testing.TB, w *watcher, partition int) {
	t.Helper()
	limit := time.After(30 * time.Second)
	for i := 0; ; i++ {
		made := k.store.Commit(k.store.App(partition, 0), storetest.AddToken(fmt.Sprintf("%s-%d", time.Now(), i)))
		select {
		case h := <-w.hints:
			if h.partition != partition || h.raw != string(made.Link) {
				t.Errorf("%+v", h)
			}
			return
		case <-w.ended:
			_, err := w.wait(t)
			t.Fatalf("Watch ended with %v", err)
		case <-limit:
			t.Fatal("no hint")
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// TestEveryKindIsUsedAlike by a writer, and by all that a validator does with its documented account.
func TestEveryKindIsUsedAlike(t *testing.T) {
	everyKind(t, redistest.Options{}, func(t *testing.T, g group) {
		k := g.fill(t, 64)
		for i := range 100 {
			k.store.Commit(k.store.App(i*7%64, i%3), storetest.AddToken(fmt.Sprint(i)))
		}
		for _, s := range g.servers {
			if _, err := s.Do(append([]string{"ACL", "SETUSER", "validator", "on", ">password"},
				strings.Fields(account)...)...); err != nil {
				t.Fatal(err)
			}
		}
		client := openWith(t, g.urlFor("validator", "password"), g.replicas)
		meta, err := client.AwaitMeta(limited(t), k.store.Ring(), slog.New(slog.DiscardHandler))
		if err != nil || meta.StoreID != k.store.Meta().StoreID {
			t.Fatalf("AwaitMeta: %+v, %v", meta, err)
		}
		if _, err := client.Meta(limited(t), keyring.Generate()); !errors.Is(err, keyring.ErrUnknownKey) {
			t.Errorf("Meta with other keys: %v", err)
		}
		feed := redisfeed.New(client, 64)
		heads, err := feed.Heads(limited(t))
		if err != nil {
			t.Fatal(err)
		}
		for i, head := range heads {
			if head.Err != nil || !bytes.Equal(head.Raw, k.store.RawHead(i)) {
				t.Errorf("head %d: %v", i, head.Err)
			}
			raw, links, err := feed.Tail(limited(t), i, 0, 500)
			if log := k.store.Log(i); err != nil || !bytes.Equal(raw, k.store.RawHead(i)) || len(links) != len(log) {
				t.Errorf("tail %d: %d of %d links, %v", i, len(links), len(log), err)
			}
			found := map[string]bool{}
			if err := feed.Documents(limited(t), i, func(app string, _ []byte) { found[app] = true }); err != nil {
				t.Errorf("documents %d: %v", i, err)
			}
			for app := range 3 {
				if delete(found, k.store.App(i, app)); app == 2 && len(found) > 0 {
					t.Errorf("documents %d: foreign ones, %v", i, found)
				}
			}
		}
		w := watch(t, feed)
		k.hear(t, w, 5)
		k.hear(t, w, 63)
		checkMasterConnection(t, g)
	})
}

// checkMasterConnection checks that a writer has one connection to the master for all its commands.
func checkMasterConnection(t *testing.T, g group) {
	t.Helper()
	client := open(t, g.urlFor("", ""))
	for _, key := range []string{"{cs00}", "{cs31}", "{cs63}"} {
		err := client.OnMaster(limited(t), key, func(c *redis.Conn) error {
			first, err := c.ClientID(t.Context()).Result()
			if err != nil {
				return err
			}
			if err := c.Set(t.Context(), key, "x", 0).Err(); err != nil {
				return err
			}
			reached, err := c.Wait(t.Context(), g.replicas, 5*time.Second).Result()
			if err != nil || reached != int64(g.replicas) {
				t.Errorf("WAIT: %d, %v", reached, err)
			}
			if last, err := c.ClientID(t.Context()).Result(); err != nil || last != first {
				t.Errorf("another connection: %d and %d, %v", first, last, err)
			}
			return nil
		})
		if err != nil {
			t.Errorf("%s: %v", key, err)
		}
		if got, err := client.Get(limited(t), key).Result(); err != nil || got != "x" {
			t.Errorf("%s is %q, %v", key, got, err)
		}
	}
	told := errors.New("told")
	if err := client.OnMaster(limited(t), "key", func(*redis.Conn) error { return told }); !errors.Is(err, told) {
		t.Errorf("f's error comes back as %v", err)
	}
}

// eventually is check.Eventually for reads, with a bound on the time until one succeeds.
func eventually(t testing.TB, what string, within time.Duration, read func(ctx context.Context) error) {
	t.Helper()
	began := time.Now()
	check.Eventually(t, what, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		return read(ctx)
	})
	check.Within(t, what, time.Since(began), within, 25*time.Second)
}

// readAll fails when a head could not be read.
func readAll(feed *redisfeed.Feed) func(context.Context) error {
	return func(ctx context.Context) error {
		heads, err := feed.Heads(ctx)
		if err != nil {
			return err
		}
		for i, head := range heads {
			if head.Err != nil {
				return fmt.Errorf("head %d: %w", i, head.Err)
			}
		}
		return nil
	}
}

// proxied makes all clients of a group go through proxies, and returns the proxies.
func (g *group) proxied(t testing.TB) proxies {
	var all proxies
	for _, s := range g.servers {
		proxy := s.Proxy()
		if proxy == nil {
			proxy = redistest.NewProxy(t, s.Address())
			g.urlFor = func(user, password string) string { return redistest.URL(proxy.Address(), user, password) }
		}
		all = append(all, proxy)
	}
	return all
}

type proxies []*redistest.Proxy

func (p proxies) each(do func(*redistest.Proxy)) {
	for _, proxy := range p {
		do(proxy)
	}
}

// patient are options of groups whose sentinels do not act when no packet gets through.
var patient = redistest.Options{Proxied: true, DownAfter: time.Minute}

// TestBlackHoleIsSurvived on every kind: all packets are lost silently, and reads fail until packets get
// through again. Then polls and a new subscription work at once, and the old subscription has ended.
func TestBlackHoleIsSurvived(t *testing.T) {
	everyKind(t, patient, func(t *testing.T, g group) {
		network := g.proxied(t)
		k := g.fill(t, 8)
		feed := k.feedWith(t, g.urlFor("", ""), g.replicas)
		w := watch(t, feed)
		k.hear(t, w, 3)
		eventually(t, "reading", 5*time.Second, readAll(feed))
		network.each((*redistest.Proxy).BlackHole)
		began := time.Now()
		for time.Since(began) < 3500*time.Millisecond {
			asked := time.Now()
			if err := readAll(feed)(t.Context()); err == nil {
				t.Error("heads were read through a network that lets nothing through")
			}
			check.Within(t, "Heads", time.Since(asked), 4*time.Second, 20*time.Second)
		}
		at, err := w.wait(t)
		if err == nil {
			t.Error("Watch ended without an error")
		}
		check.Within(t, "Watch", at.Sub(began), 10*time.Second, 25*time.Second)
		network.each((*redistest.Proxy).Restore)
		eventually(t, "reading again", 6*time.Second, readAll(feed))
		k.hear(t, watch(t, feed), 3)
	})
}

// TestHalfOpenConnectionsAreReplaced on every kind, all at once, however many there are.
func TestHalfOpenConnectionsAreReplaced(t *testing.T) {
	everyKind(t, patient, func(t *testing.T, g group) {
		network := g.proxied(t)
		k := g.fill(t, 8)
		feed := k.feed(t, g.urlFor("", ""))
		var readers sync.WaitGroup
		for i := range 64 {
			readers.Go(func() {
				if err := feed.Documents(limited(t), i%8, func(string, []byte) {}); err != nil {
					t.Error(err)
				}
				if err := readAll(feed)(limited(t)); err != nil {
					t.Error(err)
				}
			})
		}
		readers.Wait()
		w := watch(t, feed)
		k.hear(t, w, 3)
		connections := 0
		network.each(func(p *redistest.Proxy) { connections += p.Connections() })
		if connections < 10 {
			t.Fatalf("only %d connections", connections)
		}
		network.each((*redistest.Proxy).HalfOpen)
		began := time.Now()
		readers.Go(func() { eventually(t, "polling", 6*time.Second, readAll(feed)) })
		for i := range 8 {
			readers.Go(func() {
				eventually(t, "reading", 8*time.Second, func(ctx context.Context) error {
					_, _, err := feed.Tail(ctx, i, 0, 1)
					return err
				})
			})
		}
		readers.Wait()
		at, err := w.wait(t)
		if err == nil {
			t.Error("Watch ended without an error")
		}
		check.Within(t, "Watch", at.Sub(began), 10*time.Second, 25*time.Second)
	})
}
