package ledger

import (
	"flag"
	"fmt"
	"log/slog"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	"github.com/countersign/countersign/pkg/usage"
	"github.com/countersign/countersign/services/store"
)

var (
	benchTokens = flag.Int("bench.tokens", 10_000, "how many tokens get requests in benchmarks of many apps")
	benchPerApp = flag.Int("bench.per-app", 10, "how many tokens each app of these benchmarks has")
)

// benchPartitions is the number of partitions of a new store.
const benchPartitions = 64

// accounts are the counts of apps whose tokens got requests in every hour for 35 days, in a real Redis. All
// apps have tokens with the same ids, and the same counts.
type accounts struct {
	server *redistest.Server
	counts *store.Counts
	// apps are the ids of the apps by partition, and ids those of the tokens of each app.
	apps [benchPartitions][]string
	ids  []string
	// stored is the account of each app.
	stored store.AppCounts
}

func newAccounts(b *testing.B) *accounts {
	b.Helper()
	server := redistest.Start(b)
	a := &accounts{
		server: server, counts: storageAt(b, server.URL()), stored: generated(*benchPerApp, noon).stored(""),
	}
	for i := range *benchPerApp {
		a.ids = append(a.ids, tokenOf(i))
	}
	for n := range max(*benchTokens / *benchPerApp, 1) {
		id := fmt.Sprintf("app%09d", n)
		hash := policy.HashApp(id)
		partition := hash.Partition(benchPartitions)
		a.apps[partition] = append(a.apps[partition], id)
	}
	return a
}

// tokens is the number of tokens of all apps.
func (a *accounts) tokens() (n int) {
	for _, apps := range a.apps {
		n += len(apps) * *benchPerApp
	}
	return n
}

// fill writes the accounts. Days says that the counts by day are written too, not only those of 48 hours.
func (a *accounts) fill(b *testing.B, days bool) {
	b.Helper()
	number := 0
	for partition, apps := range a.apps {
		for first := 0; first < len(apps); first += 100 {
			number++
			w := store.CountsWrite{
				Partition: partition, Version: "AAAAAAAA",
				Before: []store.LastBatch{{InstanceID: fmt.Sprint("fill-", number)}},
				After:  []store.LastBatch{{InstanceID: fmt.Sprint("fill-", number), Number: 1}},
			}
			for _, id := range apps[first:min(first+100, len(apps))] {
				one := a.stored
				if one.AppID = id; !days {
					one.Days = nil
				}
				w.Apps = append(w.Apps, one)
			}
			if done, err := a.counts.Write(b.Context(), w); !done {
				b.Fatal(err)
			}
		}
	}
}

// memory returns the memory that Redis uses.
func (a *accounts) memory(b *testing.B) float64 {
	return check.Must(strconv.ParseFloat(a.server.Info("memory")["used_memory"], 64))(b)
}

// cpu returns the CPU time that this process and Redis have used, in milliseconds.
func (a *accounts) cpu(b *testing.B) (own, redis float64) {
	b.Helper()
	var used syscall.Rusage
	check.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	info := a.server.Info("cpu")
	for _, field := range []string{"used_cpu_user", "used_cpu_sys"} {
		redis += 1000 * check.Must(strconv.ParseFloat(info[field], 64))(b)
	}
	return float64(used.Utime.Nano()+used.Stime.Nano()) / 1e6, redis
}

// BenchmarkCountsMemory measures the memory of Redis for tokens that each got valid requests in every hour,
// for two scopes.
func BenchmarkCountsMemory(b *testing.B) {
	for _, kept := range []struct {
		name string
		days bool
	}{{"48h", false}, {"48h+35d", true}} {
		b.Run("kept="+kept.name, func(b *testing.B) {
			a := newAccounts(b)
			empty := a.memory(b)
			for b.Loop() {
				a.server.Do("FLUSHALL")
				a.fill(b, kept.days)
			}
			used := a.memory(b) - empty
			b.ReportMetric(used/float64(a.tokens()), "B/token")
			b.ReportMetric(used/1e6, "MB")
			b.ReportMetric(float64(a.tokens()), "tokens")
		})
	}
}

// BenchmarkAddTokens measures what an authority and Redis need to add the batches of one validator, in which
// every token has one count. The accounts have 48 hours and 35 days. Between two additions the clock goes on
// by 10 s, which is how often a validator hands its counts over, or by an hour: then an app's counts of the
// hour before are moved to the past hours and days too, which happens once an hour.
func BenchmarkAddTokens(b *testing.B) {
	for _, step := range []time.Duration{10 * time.Second, time.Hour} {
		b.Run("step="+step.String(), func(b *testing.B) {
			a := newAccounts(b)
			a.fill(b, true)
			known := tokens{}
			for _, id := range a.ids {
				known[id] = true
			}
			now := noon
			l := New(Config{
				Storage: a.counts, Partitions: benchPartitions, Apps: known,
				KnownScope: func(policy.Scope) bool { return true }, Metrics: NewMetrics(prometheus.NewRegistry()),
				Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return now },
			})
			b.Cleanup(run(l))
			var numbers [benchPartitions]uint64
			ownBefore, redisBefore := a.cpu(b)
			for b.Loop() {
				now = now.Add(step)
				var group errgroup.Group
				group.SetLimit(8)
				for partition, apps := range a.apps {
					group.Go(func() error { return a.add(b, l, partition, apps, &numbers[partition], now) })
				}
				check.NoError(b, group.Wait())
			}
			own, redis := a.cpu(b)
			b.ReportMetric((own-ownBefore)/float64(b.N), "CPU-ms/op")
			b.ReportMetric((redis-redisBefore)/float64(b.N), "Redis-CPU-ms/op")
			b.ReportMetric((own-ownBefore)*1e3/float64(b.N)/float64(a.tokens()), "CPU-us/count")
			b.ReportMetric(float64(a.tokens()), "tokens")
		})
	}
}

// add adds batches with one count of every token of a partition.
func (a *accounts) add(b *testing.B, l *Ledger, partition int, apps []string, number *uint64, now time.Time) error {
	var counts []usage.Count
	send := func() error {
		*number++
		added, err := l.Add(b.Context(), "one", &usage.Batch{Partition: partition, Number: *number, Oldest: true, Counts: counts})
		if err == nil && added != *number {
			err = fmt.Errorf("batch %d was not added, the last is %d", *number, added)
		}
		counts = nil
		return err
	}
	for _, id := range apps {
		for _, token := range a.ids {
			counts = append(counts, usage.Count{
				AppID: id, TokenID: token, Scope: 1, Reason: policy.TokenValid, Enforced: true, Minute: now, N: 100,
			})
			if len(counts) == usage.MaxBatch {
				if err := send(); err != nil {
					return err
				}
			}
		}
	}
	if len(counts) == 0 {
		return nil
	}
	return send()
}
