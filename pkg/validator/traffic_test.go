package validator_test

import (
	"fmt"
	"regexp"
	"runtime"
	"strconv"
	"testing"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/validator"
	"github.com/countersign/countersign/pkg/validator/inside"
)

// commands returns how many commands a Redis has carried out, those of its clients' connections apart.
func (k *kit) commands(t testing.TB) (total int) {
	t.Helper()
	text, err := k.admin.Info(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`cmdstat_(\S+?):calls=(\d+)`).FindAllStringSubmatch(text, -1) {
		switch m[1] {
		case "info", "hello", "client|setinfo", "client|maint_notifications", "auth", "select":
			continue
		}
		n, err := strconv.Atoi(m[2])
		if err != nil {
			t.Fatal(err)
		}
		total += n
	}
	return total
}

// TestRedisIsAskedTheSameHoweverBusy a validator is, also in a flood of unknown tokens, and of apps that
// nobody has heard of: it reads all heads four times a second, and nothing else. The flood leaves nothing
// behind in memory. What is counted is commands for each of these reads, so that it makes no difference how
// fast the machine is.
func TestRedisIsAskedTheSameHoweverBusy(t *testing.T) {
	k := start(t)
	k.store.CopyTo(k.admin)
	v := k.ready(t, k.server.URL())
	polls := func() uint64 { return inside.Replica(v).Stats().Polls }
	await := func(n uint64) {
		t.Helper()
		check.Eventually(t, "polls", func() error {
			if got := polls(); got < n {
				return fmt.Errorf("%d, want %d", got, n)
			}
			return nil
		})
	}
	await(polls() + 4) // what follows the start is over
	const span = 12
	during := func(f func(until uint64)) (commandsAPoll float64) {
		before, began := k.commands(t), polls()
		f(began + span)
		return float64(k.commands(t)-before) / float64(polls()-began)
	}
	idle := during(await)
	heap := liveHeap()
	asked := 0
	busy := during(func(until uint64) {
		for ; polls() < until; asked++ {
			r := validator.Request{AppID: k.app, Token: secret.Mint(), Scope: events}
			want := policy.TokenUnknown
			if asked%2 == 0 {
				r.AppID, want = "app"+strconv.Itoa(asked), policy.AppNotConfigured
			}
			if answer, err := v.Authorize(t.Context(), r); err != nil || answer.Reason != want {
				t.Fatalf("%+v, %v", answer, err)
			}
		}
	})
	grown := liveHeap() - heap
	t.Logf("commands a poll: %.1f idle, %.1f while %d questions were asked, which left %d bytes", idle, busy, asked, grown)
	// One read of all heads is a few commands, in a transaction with a look at the replication. Once a
	// second there is a ping.
	if idle > 10 || busy > idle+2.5 {
		t.Errorf("commands a poll: %.1f idle, %.1f busy", idle, busy)
	}
	if asked < 100*span {
		t.Errorf("%d questions were no flood", asked)
	}
	if grown > 1<<20 {
		t.Errorf("%d questions left %d bytes behind", asked, grown)
	}
}

func liveHeap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
