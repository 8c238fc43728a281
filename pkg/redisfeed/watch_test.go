package redisfeed_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	"github.com/countersign/countersign/pkg/testkit/storetest"
)

// subscribed waits until the given number of clients is subscribed to the hints of every partition.
func (k *kit) subscribed(t testing.TB, clients int) {
	t.Helper()
	last := record.KeysOf(k.store.Meta().Partitions - 1).Hint
	check.Eventually(t, "subscribing", func() error {
		if n := k.admin.PubSubNumSub(t.Context(), last).Val()[last]; n != int64(clients) {
			return fmt.Errorf("%d clients hear %s, want %d", n, last, clients)
		}
		return nil
	})
}

// next returns the next hint.
func (w *watcher) next(t testing.TB) hint {
	t.Helper()
	select {
	case h := <-w.hints:
		return h
	case <-w.ended:
		_, err := w.wait(t)
		t.Fatalf("Watch ended with %v", err)
	case <-time.After(30 * time.Second):
		t.Fatal("no hint")
	}
	return hint{}
}

func TestHintsArriveInOrderFromEveryPartition(t *testing.T) {
	k := start(t, 64)
	w := watch(t, k.feed(t, k.server.URL()))
	k.subscribed(t, 1)
	for i := range 300 {
		partition := i * 7 % 64
		made := k.store.Commit(k.store.App(partition, 0), storetest.AddToken(fmt.Sprint(i)))
		if got, want := w.next(t), (hint{partition, string(made.Link)}); got != want {
			t.Fatalf("hint %d is of partition %d, want %d; same link: %v", i, got.partition, partition, got.raw == want.raw)
		}
	}
	// Any message is passed on as it is, for the replica to reject.
	k.admin.Publish(t.Context(), record.KeysOf(63).Hint, "garbage\x00\r\n")
	if got := w.next(t); got != (hint{63, "garbage\x00\r\n"}) {
		t.Errorf("%+v", got)
	}
	// Messages for partitions that the store does not have are not received.
	k.admin.Publish(t.Context(), record.KeysOf(64).Hint, "x")
	k.admin.Publish(t.Context(), record.KeysOf(0).Hint, "last")
	if got := w.next(t); got != (hint{0, "last"}) {
		t.Errorf("%+v", got)
	}
}

// TestQuietSubscriptionStaysUp: it is pinged, and the answers count.
func TestQuietSubscriptionStaysUp(t *testing.T) {
	t.Parallel()
	k := start(t, 1)
	proxy := redistest.NewProxy(t, k.server.Address())
	w := watch(t, k.feed(t, proxy.URL()))
	k.subscribed(t, 1)
	select {
	case <-w.ended:
		_, err := w.wait(t)
		t.Fatalf("ended with %v", err)
	case <-time.After(4500 * time.Millisecond): // longer than any silence that is tolerated
	}
	made := k.store.Commit(k.store.App(0, 0), storetest.AddToken("a"))
	if got := w.next(t); got.raw != string(made.Link) {
		t.Errorf("%+v", got)
	}
	if n := proxy.Accepted(); n != 1 {
		t.Errorf("%d connections for one subscription", n)
	}
}

// TestLostSubscriptionIsAnError at once when the connection ends, so that missed messages are noticed.
func TestLostSubscriptionIsAnError(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(k *kit, p *redistest.Proxy){
		"connection cut": func(_ *kit, p *redistest.Proxy) { p.Cut() },
		"server stopped": func(k *kit, _ *redistest.Proxy) { k.server.Stop() },
		"client killed": func(k *kit, _ *redistest.Proxy) {
			k.admin.Do(context.Background(), "CLIENT", "KILL", "TYPE", "pubsub")
		},
		"refused ever after": func(_ *kit, p *redistest.Proxy) { p.Refuse() },
	} {
		t.Run(name, func(t *testing.T) {
			k := start(t, 1)
			proxy := redistest.NewProxy(t, k.server.Address())
			w := watch(t, k.feed(t, proxy.URL()))
			k.subscribed(t, 1)
			began := time.Now()
			lose(k, proxy)
			at, err := w.wait(t)
			if err == nil || errors.Is(err, context.Canceled) || at.Sub(began) > 4*time.Second {
				t.Errorf("%v after %v", err, at.Sub(began))
			}
		})
	}
}

// TestSilentSubscriptionIsGivenUp after 3 to 4 s, whatever made it silent.
func TestSilentSubscriptionIsGivenUp(t *testing.T) {
	t.Parallel()
	for name, silence := range map[string]func(k *kit, p *redistest.Proxy){
		"server does not run":   func(k *kit, _ *redistest.Proxy) { k.server.Pause() },
		"network drops packets": func(_ *kit, p *redistest.Proxy) { p.BlackHole() },
		"replies are lost":      func(_ *kit, p *redistest.Proxy) { p.SwallowReplies() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := start(t, 1)
			proxy := redistest.NewProxy(t, k.server.Address())
			w := watch(t, k.feed(t, proxy.URL()))
			k.subscribed(t, 1)
			k.store.Commit(k.store.App(0, 0), storetest.AddToken("a"))
			w.next(t)
			began := time.Now()
			silence(k, proxy)
			at, err := w.wait(t)
			took := at.Sub(began)
			if err == nil || took < 2900*time.Millisecond {
				t.Errorf("%v after %v", err, took)
			}
			check.Within(t, "Watch", took, 6*time.Second, 20*time.Second)
		})
	}
}

// TestSubscriptionThatDoesNotComeAboutIsGivenUp: subscribing has a timeout, too.
func TestSubscriptionThatDoesNotComeAboutIsGivenUp(t *testing.T) {
	t.Parallel()
	for name, prevent := range map[string]func(k *kit, p *redistest.Proxy){
		"server does not run":   func(k *kit, _ *redistest.Proxy) { k.server.Pause() },
		"network drops packets": func(_ *kit, p *redistest.Proxy) { p.BlackHole() },
		"server stopped":        func(k *kit, _ *redistest.Proxy) { k.server.Stop() },
		"refused":               func(_ *kit, p *redistest.Proxy) { p.Refuse() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := start(t, 1)
			proxy := redistest.NewProxy(t, k.server.Address())
			feed := k.feed(t, proxy.URL())
			prevent(k, proxy)
			began := time.Now()
			at, err := watch(t, feed).wait(t)
			if err == nil {
				t.Error("Watch ended without an error")
			}
			check.Within(t, "Watch", at.Sub(began), 5500*time.Millisecond, 20*time.Second)
		})
	}
}

// TestWatchEndsWithItsContext at once, while it waits for a hint and while no server answers.
func TestWatchEndsWithItsContext(t *testing.T) {
	for _, paused := range []bool{false, true} {
		t.Run(fmt.Sprintf("paused=%v", paused), func(t *testing.T) {
			k := start(t, 1)
			w := watch(t, k.feed(t, k.server.URL()))
			k.subscribed(t, 1)
			if paused {
				k.server.Pause()
			}
			began := time.Now()
			w.stop()
			if at, err := w.wait(t); !errors.Is(err, context.Canceled) || at.Sub(began) > 3*time.Second {
				t.Errorf("%v after %v", err, at.Sub(began))
			}
		})
	}
}
