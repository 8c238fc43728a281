package performance

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	"github.com/countersign/countersign/pkg/validator"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

var (
	coldTokens = flag.Int("cold.tokens", 2000, "how many tokens there are in all")
	coldRuns   = flag.Int("cold.runs", 1, "how many validators are started, one after the other")
)

// TestColdStart starts validators over a store with many tokens, and then from a snapshot file without the
// store. A validator that serves must decide correctly about all of them.
func TestColdStart(t *testing.T) {
	binary := check.Must(validatorBinary())(t)
	figures := newTable("tokens an app", "apps", "ready after", "CPU till then", "RSS then", "heap after a collection",
		"Redis in all", "its documents", "its logs", "snapshot file", "ready from it, without Redis")
	for _, perApp := range []int{1, 10, 100} {
		t.Run(strconv.Itoa(perApp), func(t *testing.T) { figures.row(coldStart(t, binary, perApp)...) })
	}
	figures.print(t, fmt.Sprintf("%d tokens, median of %d starts", *coldTokens, *coldRuns))
}

func coldStart(t *testing.T, binary string, perApp int) (cells []string) {
	server, ring := redistest.Start(t), keyring.Generate()
	ringFile := filepath.Join(t.TempDir(), "ring.json")
	if err := ring.Create(ringFile); err != nil {
		t.Fatal(err)
	}
	client := check.Must(redisfeed.Open(server.URL(), redisfeed.Options{}))(t)
	defer client.Close()
	b := writeBulk(t, client, ring, *coldTokens/perApp, perApp)
	all, documents, logs := b.memory(t)

	arguments := []string{"--redis-url=" + server.URL(), "--keyring-file=" + ringFile}
	var ready, cpu, fromFile times
	var rss []int
	for range *coldRuns {
		p := startProcess(t, binary, arguments...)
		ready.add(p.awaitServing())
		cpu.add(p.cpu())
		rss = append(rss, int(p.metric("process_resident_memory_bytes")))
		b.check(t, p)
		p.end()
	}
	heap := heapOf(t, validator.Config{RedisURL: server.URL(), Ring: ring, Log: slog.New(slog.DiscardHandler)})

	copied := filepath.Join(t.TempDir(), "snapshot")
	arguments = append(arguments, "--snapshot-file="+copied)
	writer := startProcess(t, binary, arguments...)
	writer.awaitServing()
	writer.end()
	server.Stop()
	for range *coldRuns {
		p := startProcess(t, binary, arguments...)
		fromFile.add(p.awaitServing())
		b.check(t, p)
		p.end()
	}
	return []string{
		strconv.Itoa(perApp), strconv.Itoa(*coldTokens / perApp), ms(ready.at(0.5)), ms(cpu.at(0.5)), mb(median(rss)), mb(heap),
		mb(all), mb(documents), mb(logs), mb(int(check.Must(os.Stat(copied))(t).Size())), ms(fromFile.at(0.5)),
	}
}

// check asks about samples of the apps, and about tokens that no app has.
func (b *bulkStore) check(t testing.TB, v countersignv1.ValidatorServiceClient) {
	t.Helper()
	for i, app := range b.Samples {
		for token, want := range map[string]countersignv1.Reason{
			app.Secret:                             countersignv1.Reason_REASON_TOKEN_VALID,
			b.Samples[(i+1)%len(b.Samples)].Secret: countersignv1.Reason_REASON_TOKEN_UNKNOWN,
		} {
			answer, err := v.Authorize(t.Context(), &countersignv1.AuthorizeRequest{AppId: app.AppID, Token: token, Scope: events})
			if err != nil || answer.GetReason() != want {
				t.Fatalf("app %s: %v %v, want %s", app.AppID, answer.GetReason(), err, want)
			}
		}
	}
}

// heapOf returns the size of the live heap of a validator that has loaded everything.
func heapOf(t testing.TB, config validator.Config) int {
	t.Helper()
	before := liveHeap()
	v := check.Must(validator.New(config))(t)
	ctx, cancel := context.WithTimeout(t.Context(), loadPatience)
	defer cancel()
	running, stop := context.WithCancel(ctx)
	var group errgroup.Group
	group.Go(func() error { return v.Run(running) })
	defer func() {
		stop()
		if err := group.Wait(); err != nil {
			t.Error(err)
		}
	}()
	if err := v.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	return liveHeap() - before
}

func liveHeap() int {
	runtime.GC()
	runtime.GC() // a second run frees objects with finalizers
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
