package redisfeed_test

import (
	"context"
	"flag"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	"github.com/countersign/countersign/pkg/testkit/storetest"
)

// TestMain runs more tests at a time than there are processors, since most of them wait for a Redis server to
// start or to be missed.
func TestMain(m *testing.M) {
	flag.Parse()
	_ = flag.Set("test.parallel", "6")
	goleak.VerifyTestMain(m)
}

// open returns a client that is closed at the end of the test.
func open(t testing.TB, url string) *redisfeed.Client { return openWith(t, url, 0) }

// openWith returns a client with a write quorum.
func openWith(t testing.TB, url string, quorum int) *redisfeed.Client {
	t.Helper()
	client, err := redisfeed.Open(url, redisfeed.Options{WriteQuorum: quorum})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// kit is a store in a Redis server.
type kit struct {
	server *redistest.Server
	admin  *redisfeed.Client
	store  *storetest.Store
}

func start(t testing.TB, partitions int) *kit {
	t.Helper()
	k := &kit{server: redistest.Start(t), store: storetest.New(t, partitions)}
	k.admin = open(t, k.server.URL())
	k.store.CopyTo(k.admin)
	return k
}

func (k *kit) feed(t testing.TB, url string) *redisfeed.Feed {
	t.Helper()
	return redisfeed.New(open(t, url), k.store.Meta().Partitions)
}

// limited returns a context that ends long after everything should have happened.
func limited(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// watcher is a running Watch.
type watcher struct {
	hints chan hint
	ended chan struct{}
	stop  context.CancelFunc

	mu  sync.Mutex
	err error
	at  time.Time
}

type hint struct {
	partition int
	raw       string
}

// watch starts a Watch, which ends with the test.
func watch(t testing.TB, feed *redisfeed.Feed) *watcher {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w := &watcher{hints: make(chan hint, 1000), ended: make(chan struct{}), stop: cancel}
	go func() {
		defer close(w.ended)
		err := feed.Watch(ctx, func(partition int, raw []byte) { w.hints <- hint{partition, string(raw)} })
		w.mu.Lock()
		defer w.mu.Unlock()
		w.err, w.at = err, time.Now()
	}()
	t.Cleanup(func() {
		cancel()
		<-w.ended
	})
	return w
}

// wait waits for the end of Watch, and returns when and why it ended.
func (w *watcher) wait(t testing.TB) (time.Time, error) {
	t.Helper()
	select {
	case <-w.ended:
	case <-time.After(30 * time.Second):
		t.Fatal("Watch does not end")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.at, w.err
}
