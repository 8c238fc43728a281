package management_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/table"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	"github.com/countersign/countersign/pkg/usage"
	pb "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/authority/internal/evidence"
	"github.com/countersign/countersign/services/authority/internal/fleet"
	"github.com/countersign/countersign/services/authority/internal/ledger"
	"github.com/countersign/countersign/services/authority/internal/management"
	"github.com/countersign/countersign/services/store"
	"github.com/countersign/countersign/services/test/cluster"
)

// windows are the windows of the benchmarks.
var windows = []time.Duration{24 * time.Hour, ledger.Days * 24 * time.Hour}

// anyToken knows every app, and cannot tell its tokens: none is dropped.
type anyToken struct{}

func (anyToken) Tokens(string) (map[string]bool, bool, error) { return nil, true, nil }

// inRedis returns a source of counts in a Redis. It has the counts of 35 days: in each of the last 48 hours,
// and once in each day before, every app got the requests that minute returns. A ledger whose clock goes from
// 35 days ago to the present has added them. They come from 100 validators, and none are missing.
func inRedis(b *testing.B, url string, of *table.Table, minute func(appID string) []usage.Count) *evidence.Source {
	b.Helper()
	client := check.Must(redisfeed.Open(url, redisfeed.Options{}))(b)
	b.Cleanup(func() { client.Close() })
	var clock atomic.Pointer[time.Time]
	now := func() time.Time { return *clock.Load() }
	present := time.Now()
	clock.Store(&minutesOf(present)[0])
	l := ledger.New(ledger.Config{
		Storage: store.NewCounts(client, "0123456789abcdef"), Partitions: of.Len(), StoreCreated: now(),
		Apps: anyToken{}, Now: now,
		KnownScope: func(policy.Scope) bool { return true }, Metrics: ledger.NewMetrics(prometheus.NewRegistry()),
		Log: slog.New(slog.DiscardHandler),
	})
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = l.Run(ctx) })
	b.Cleanup(func() { stop(); running.Wait() })
	for number, at := range minutesOf(present) {
		clock.Store(&at)
		var group errgroup.Group
		group.SetLimit(8)
		for i := range of.Len() {
			batch := &usage.Batch{Partition: i, Number: uint64(number + 1), Oldest: number == 0}
			for appID := range of.Partition(i).All() {
				for _, c := range minute(appID) {
					c.AppID, c.Minute = appID, at
					batch.Counts = append(batch.Counts, c)
				}
			}
			if len(batch.Counts) == 0 {
				continue
			}
			group.Go(func() error { _, err := l.Add(ctx, "bench", batch); return err })
		}
		check.NoError(b, group.Wait())
	}
	validators := &counts{}
	for n := range 100 {
		v := fleet.Instance{ID: fmt.Sprint("v", n), InstanceID: fmt.Sprint("i", n), Start: present, Reporting: true}
		validators.members = append(validators.members, v)
		check.NoError(b, l.Cover(ctx, ledger.Coverage{
			ValidatorID: v.ID, InstanceID: v.InstanceID, Start: v.Start, Until: present.Add(time.Hour),
		}))
	}
	source := evidence.New(validators)
	source.Open(evidence.CountsOf(l))
	return source
}

// minutesOf returns one minute in each period for which counts are kept, the oldest first.
func minutesOf(present time.Time) (all []time.Time) {
	for day := ledger.Days; day*24 > ledger.Hours; day-- {
		all = append(all, present.Add(-time.Duration(day)*24*time.Hour))
	}
	for hour := ledger.Hours; hour >= 0; hour-- {
		all = append(all, present.Add(-time.Duration(hour)*time.Hour))
	}
	return all
}

// reportCPU starts to count the CPU time of this process, without Redis. The returned function reports it. It
// says more than the time on a machine that does other work.
func reportCPU(b *testing.B) func() {
	used := func() int64 {
		var r syscall.Rusage
		check.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &r))
		return r.Utime.Nano() + r.Stime.Nano()
	}
	before := used()
	return func() { b.ReportMetric(float64(used()-before)/float64(b.N)/1e6, "CPU-ms/op") }
}

// BenchmarkGetReadiness asks for the report on an app with 1,000 tokens, whose counts of 35 days are in a
// real Redis. Each token is used for three scopes, for one of them in vain, and requests without a token of
// the app have four reasons.
func BenchmarkGetReadiness(b *testing.B) {
	w := newWorldWith(b, cluster.Options{})
	request := &pb.ImportTokensRequest{AppId: newApp()}
	for n := range 1000 {
		token := &pb.TokenImport{
			Name: fmt.Sprintf("integration-%04d", n), Scopes: []pb.Scope{events, sessions},
			Credential: &pb.TokenImport_Sha256{Sha256: sha(fmt.Sprint(n))},
		}
		request.Imports = append(request.Imports, token)
	}
	tokens := check.Must(w.ImportTokens(b.Context(), request))(b).GetTokens()
	var minute []usage.Count
	for n, token := range tokens {
		for _, use := range []struct {
			scope  pb.Scope
			reason policy.Reason
		}{{events, policy.TokenValid}, {sessions, policy.TokenValid}, {revenue, policy.ScopeNotGranted}} {
			minute = append(minute, usage.Count{
				TokenID: token.GetTokenId(), Scope: policy.Scope(use.scope), Reason: use.reason, N: uint64(1000 + n),
			})
		}
	}
	for _, scope := range []pb.Scope{events, sessions, revenue} {
		for _, reason := range []policy.Reason{
			policy.TokenMissing, policy.TokenMalformed, policy.TokenUnknown, policy.SourceNotSupported,
		} {
			minute = append(minute, usage.Count{Scope: policy.Scope(scope), Reason: reason, N: 100})
		}
	}
	st := w.store(b)
	source := inRedis(b, w.RedisURL, st.Replica().Table(), func(string) []usage.Count { return minute })
	service := management.New(stuckFleet{}, source)
	service.Open(st)
	for _, window := range windows {
		b.Run("window="+window.String(), func(b *testing.B) {
			b.ReportAllocs()
			defer reportCPU(b)()
			for b.Loop() {
				report, err := service.GetReadiness(b.Context(), &pb.GetReadinessRequest{
					AppId: request.GetAppId(), Window: durationpb.New(window),
				})
				r := report.GetReadiness()
				hours := uint64(window.Hours())
				if err != nil || len(r.GetTokens()) != 1000 || len(r.GetScopes()) != 3 || r.GetVerdict() != notReadyVerdict ||
					r.GetTokens()[0].GetRequests() < 3*1000*min(hours, 48+33) {
					b.Fatal(err, r.GetVerdict(), len(r.GetTokens()))
				}
			}
		})
	}
}

// BenchmarkListReadiness asks for the first and for a later page of 10,000 apps, whose counts of 35 days are
// in a real Redis. Each first page makes the list.
func BenchmarkListReadiness(b *testing.B) {
	const apps = 10_000
	st := listed(b, apps)
	numbers := map[string]int{}
	for n := range apps {
		numbers[appNumber(n)] = n
	}
	source := inRedis(b, redistest.Start(b).URL(), st.Replica().Table(), func(appID string) []usage.Count {
		n := numbers[appID]
		all := []usage.Count{
			{TokenID: tokenNumber(n), Scope: policy.Scope(events), Reason: policy.TokenValidUnscoped, N: 1000},
			{TokenID: tokenNumber(n), Scope: policy.Scope(sessions), Reason: policy.TokenValidUnscoped, N: 1000},
			{Scope: policy.Scope(events), Reason: policy.TokenMissing, N: uint64(n % 50)},
		}
		return slices.DeleteFunc(all, func(c usage.Count) bool { return c.N == 0 })
	})
	fresh := func() *management.Service {
		service := management.New(stuckFleet{}, source)
		service.Open(st)
		return service
	}
	for _, window := range windows {
		service, request := fresh(), &pb.ListReadinessRequest{Window: durationpb.New(window)}
		page, err := service.ListReadiness(b.Context(), request)
		ask := func(b *testing.B) {
			page, err = service.ListReadiness(b.Context(), request)
			if err != nil || len(page.GetApps()) != 100 || page.GetNextPageToken() == "" || len(page.GetApps()[0].GetMissing()) != 0 {
				b.Fatal(len(page.GetApps()), err)
			}
		}
		b.Run(fmt.Sprintf("window=%s/page=first", window), func(b *testing.B) {
			b.ReportAllocs()
			defer reportCPU(b)()
			for b.Loop() {
				service = fresh()
				ask(b)
			}
		})
		request.PageToken = page.GetNextPageToken()
		b.Run(fmt.Sprintf("window=%s/page=later", window), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				ask(b)
			}
		})
	}
}
