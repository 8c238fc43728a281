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

// commands returns how many commands a Redis has executed, without the commands that set up connections.
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

// TestRedisIsAskedTheSameHoweverBusy: a validator sends Redis the same commands however busy it is, also in
// a flood of unknown tokens and apps: it reads all heads four times a second. The flood leaves nothing in
// memory. The test counts commands for each read of the heads, so that the speed of the machine does not
// matter.
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
	await(polls() + 4) // the extra commands after the start are over
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
				t.Fatalf("Authorize: got %+v, error %v", answer, err)
			}
		}
	})
	grown := liveHeap() - heap
	t.Logf("commands a poll: %.1f idle, %.1f while %d questions were asked, which left %d bytes", idle, busy, asked, grown)
	// One read of all heads is a few commands in a transaction, with a query of the replication. A ping is
	// sent once a second.
	if idle > 10 || busy > idle+2.5 {
		t.Errorf("commands for each read of the heads: %.1f when idle, %.1f when busy", idle, busy)
	}
	if asked < 100*span {
		t.Errorf("the test asked only %d questions, which is no flood", asked)
	}
	if grown > 1<<20 {
		t.Errorf("after %d questions, %d more bytes are in use", asked, grown)
	}
}

func liveHeap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
