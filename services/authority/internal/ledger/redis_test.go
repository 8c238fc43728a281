package ledger

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/countersign/countersign/deploy/redisacl"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	"github.com/countersign/countersign/pkg/usage"
	"github.com/countersign/countersign/services/store"
)

func storageAt(t testing.TB, url string) *store.Counts {
	t.Helper()
	client, err := redisfeed.Open(url, redisfeed.Options{})
	check.NoError(t, err)
	t.Cleanup(func() { client.Close() })
	return store.NewCounts(client, "0123456789abcdef")
}

// TestB21_TwoAuthoritiesOverRedis: validators hand their counts over to two authorities at once, over
// connections that lose replies. Redis counts each once.
func TestB21_TwoAuthoritiesOverRedis(t *testing.T) {
	server := redistest.StartWithAccounts(t)
	proxy := redistest.NewProxy(t, server.Address())
	throughProxy := redistest.URL(proxy.Address(), redisacl.Authority, redisacl.Authority)
	var ledgers []*Ledger
	for _, url := range []string{server.URLFor(redisacl.Authority), throughProxy} {
		l := open(storageAt(t, url), time.Now)
		t.Cleanup(run(l))
		ledgers = append(ledgers, l)
	}
	const validators, batches = 6, 30
	done := make(chan struct{})
	var troubles sync.WaitGroup
	troubles.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(50 * time.Millisecond):
			}
			proxy.SwallowReplies()
			time.Sleep(10 * time.Millisecond)
			proxy.Cut()
			proxy.Restore()
		}
	})
	var running sync.WaitGroup
	for v := range validators {
		running.Go(func() {
			for number := uint64(1); number <= batches; {
				b := &usage.Batch{Partition: 1, Number: number, Oldest: number == 1}
				for i := range 5 {
					b.Counts = append(b.Counts, usage.Count{
						AppID: appIn(1, (v+i)%7), Scope: 1, Reason: policy.TokenMissing, Minute: time.Now(), N: 1,
					})
				}
				ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
				counted, err := ledgers[rand.N(2)].Add(ctx, fmt.Sprint("instance-", v), b)
				cancel()
				if t.Context().Err() != nil {
					return
				}
				if err == nil {
					if counted+1 < number || counted > number {
						t.Errorf("batch %d: %d are counted", number, counted)
						return
					}
					number = counted + 1
				}
			}
		})
	}
	running.Wait()
	close(done)
	troubles.Wait()
	proxy.Restore()
	var total uint64
	for i := range 7 {
		h := check.Must(ledgers[0].App(t.Context(), appIn(1, i)))(t)
		sums, _ := h.Sums(time.Now().Add(-time.Hour))
		for _, s := range sums {
			total += s.N
		}
	}
	if total != validators*batches*5 {
		t.Errorf("%d decisions are counted, want %d", total, validators*batches*5)
	}
}

// TestB21_RedisIsAway: while Redis is away nothing is counted, and reads say so. Afterwards the same batch is
// counted.
func TestB21_RedisIsAway(t *testing.T) {
	server := redistest.Start(t)
	l := open(storageAt(t, server.URL()), time.Now)
	t.Cleanup(run(l))
	server.Stop()
	b := &usage.Batch{Partition: 1, Number: 1, Counts: []usage.Count{{
		AppID: appIn(1, 0), Scope: 1, Reason: policy.TokenMissing, Minute: time.Now(), N: 4,
	}}}
	if n, err := l.Add(t.Context(), "one", b); err == nil {
		t.Errorf("%d are counted without Redis", n)
	}
	if _, err := l.App(t.Context(), appIn(1, 0)); err == nil {
		t.Error("counts were read without Redis")
	}
	server.Restart()
	check.Eventually(t, "the addition", func() error {
		if n, err := l.Add(t.Context(), "one", b); err != nil || n != 1 {
			return errors.Join(errors.New("not made"), err)
		}
		return nil
	})
}

// generated returns the counts of an app as they are after 35 days of traffic: for each token, valid requests
// in each hour, for two scopes.
func generated(tokens int, now time.Time) account {
	random := rand.New(rand.NewPCG(1, 2))
	var a account
	day := func(from, to int64, minutes int64) (b block) {
		for i := range tokens {
			for scope := range 2 {
				s := series{Kind: Kind{tokenOf(i), policy.Scope(1 + scope), policy.TokenValid, true}}
				for p := from; p <= to; p++ {
					s.points = append(s.points, point{p, 1 + random.Uint64N(10_000)})
				}
				s.last = to*minutes + random.Int64N(minutes)
				b = append(b, s)
			}
		}
		slices.SortFunc(b, func(a, c series) int { return compareKinds(a.Kind, c.Kind) })
		return b
	}
	hour := hourOf(now)
	a.running = day(hour, hour, minutesOfHour)
	a.hours = day(hour-Hours, hour-1, minutesOfHour)
	a.days = day(dayOf(now)-Days+1, dayOf(now), hoursOfDay*minutesOfHour)
	return a
}

// tokenOf returns the id of a token.
func tokenOf(i int) string {
	raw := make([]byte, usualBytes)
	random := rand.New(rand.NewPCG(uint64(i), 0))
	for j := range raw {
		raw[j] = byte(random.UintN(256))
	}
	raw[0], raw[1], raw[2] = 0, byte(i>>8), byte(i)
	return usualPrefix + usual.EncodeToString(raw)
}

// stored returns an account as it is stored.
func (a account) stored(appID string) store.AppCounts {
	return store.AppCounts{
		AppID: appID, Running: a.running.pack(minutesOfHour), Hours: a.hours.pack(minutesOfHour),
		Days: a.days.pack(hoursOfDay * minutesOfHour),
	}
}

// size returns the number of kinds and periods.
func (a account) size() (n int) {
	for _, b := range []block{a.running, a.hours, a.days} {
		for _, s := range b {
			n += len(s.points)
		}
	}
	return n
}

// TestB21_CountsAreSmallInRedis: Redis needs at most 40 bytes for each kind of decision and period.
func TestB21_CountsAreSmallInRedis(t *testing.T) {
	server := redistest.Start(t)
	client, err := redisfeed.Open(server.URL(), redisfeed.Options{})
	check.NoError(t, err)
	t.Cleanup(func() { client.Close() })
	for _, tokens := range []int{1, 10, 1000} {
		a := generated(tokens, noon)
		w := store.CountsWrite{
			Partition: 1, Before: []store.LastBatch{{InstanceID: "one"}}, After: []store.LastBatch{{InstanceID: "one"}},
			Apps: []store.AppCounts{a.stored(fmt.Sprint("app-", tokens))}, Version: "12345678",
		}
		w.Before[0].InstanceID, w.After[0].InstanceID = fmt.Sprint(tokens), fmt.Sprint(tokens)
		for _, raw := range [][]byte{w.Apps[0].Running, w.Apps[0].Hours, w.Apps[0].Days} {
			check.Must(unpack(raw, minutesOfHour))(t)
		}
		if done, err := store.NewCounts(client, "0123456789abcdef").Write(t.Context(), w); !done {
			t.Fatal(err)
		}
		used := check.Must(client.MemoryUsage(t.Context(), fmt.Sprintf("csu:01234567:{cs01}:app:app-%d", tokens)).Result())(t)
		each := float64(used) / float64(a.size())
		t.Logf("%d tokens: %d bytes, %.1f for each of %d kinds and periods", tokens, used, each, a.size())
		if each > 40 {
			t.Errorf("%d tokens: %.1f bytes for each kind and period, want at most 40", tokens, each)
		}
	}
}
