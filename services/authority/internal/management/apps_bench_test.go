package management_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/pkg/table"
	pb "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/authority/internal/evidence"
	"github.com/countersign/countersign/services/authority/internal/management"
	"github.com/countersign/countersign/services/store"
)

var benchApps = flag.Int("bench.apps", 100_000, "how many apps benchmarks of lists have")

// away is a store that does not answer: lists come from the imported data.
type away struct{}

var errAway = errors.New("away")

func (away) Heads(context.Context) ([]replica.HeadRead, error) { return nil, errAway }
func (away) Tail(context.Context, int, uint64, int) ([]byte, []record.RawEntry, error) {
	return nil, nil, errAway
}
func (away) Documents(context.Context, int, func(string, []byte)) error { return errAway }
func (away) Watch(context.Context, func(int, []byte)) error             { return errAway }

// listing returns a service that knows a number of apps with one token each.
func listing(b testing.TB, apps int) *management.Service { return listingWith(b, apps, nil) }

// listingWith is listing with evidence.
func listingWith(b testing.TB, apps int, source *evidence.Source) *management.Service {
	b.Helper()
	service := management.New(stuckFleet{}, source)
	service.Open(listed(b, apps))
	return service
}

// listed returns a store that knows a number of apps with one token each.
func listed(b testing.TB, apps int) *store.Store {
	b.Helper()
	codec := record.NewCodec(keyring.Generate(), record.Meta{
		StoreID: "0123456789abcdef0123456789abcdef", Partitions: 64,
		CreateTime: time.Now(),
	})
	r := replica.New(away{}, codec, slog.New(slog.DiscardHandler))
	r.Lists()
	contents := make([]replica.Contents, codec.Partitions())
	at := record.Cursor{Epoch: 1, Revision: uint64(apps)}
	for i := range contents {
		contents[i] = replica.Contents{Partition: i, Cursor: at, Confirmed: at, Base: at, VerifyTime: time.Now()}
	}
	for n := range apps {
		app, revision := appNumber(n), uint64(n+1)
		p, err := policy.New(policy.Enforcement{}, []policy.Token{{
			ID: tokenNumber(n), Digest: secret.DigestOf(app), State: policy.Active,
		}}, false)
		if err != nil {
			b.Fatal(err)
		}
		c := &contents[codec.PartitionOf(app)]
		c.Apps = append(c.Apps, replica.App{ID: app, Entry: &table.Entry{Policy: p, Revision: revision, PolicyRevision: revision}})
		c.Sum = codec.Add(c.Sum, c.Partition, app, revision)
	}
	for i := range contents {
		if err := r.Import(contents[i]); err != nil {
			b.Fatal(err)
		}
		contents[i] = replica.Contents{}
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	err := r.WaitLoaded(ctx) // once the store was asked in vain
	stop()
	if err := errors.Join(err, <-ended); err != nil {
		b.Fatal(err)
	}
	return store.New(nil, r, store.Options{}, slog.New(slog.DiscardHandler))
}

// TestPageOfAppsCostsItsPage: the allocations for a page do not grow with the number of apps.
func TestPageOfAppsCostsItsPage(t *testing.T) {
	page := func(apps int) float64 {
		service := listing(t, apps)
		return testing.AllocsPerRun(5, func() {
			if page, err := service.ListApps(t.Context(), &pb.ListAppsRequest{}); err != nil || len(page.GetApps()) != 100 {
				t.Fatal(page, err)
			}
		})
	}
	// A tree of 64 partitions is one node higher.
	if few, many := page(1_000), page(20_000); many > few+2*64 {
		t.Errorf("a page of 100 of 1,000 apps makes %v allocations, one of 20,000 apps %v", few, many)
	}
}

// BenchmarkListApps asks for one page after the other.
func BenchmarkListApps(b *testing.B) {
	service := listing(b, *benchApps)
	for _, size := range []int32{100, 1000} {
		b.Run(fmt.Sprintf("page=%d", size), func(b *testing.B) {
			b.ReportAllocs()
			request := &pb.ListAppsRequest{PageSize: size}
			for b.Loop() {
				page, err := service.ListApps(b.Context(), request)
				if err != nil || len(page.GetApps()) == 0 {
					b.Fatal(len(page.GetApps()), err)
				}
				request.PageToken = page.GetNextPageToken()
			}
		})
	}
}
