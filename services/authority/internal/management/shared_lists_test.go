package management_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/countersign/countersign/pkg/testkit/check"
	pb "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/authority/internal/evidence"
	"github.com/countersign/countersign/services/authority/internal/identity"
	"github.com/countersign/countersign/services/authority/internal/ledger"
	"github.com/countersign/countersign/services/authority/internal/management"
)

// gated are counts that nobody can read until they are opened.
type gated struct {
	*counts
	// begun is how many lists were begun: each reads the coverage once.
	begun  atomic.Int64
	opened chan struct{}
}

func (g *gated) Coverage(ctx context.Context) ([]ledger.Coverage, time.Time, error) {
	g.begun.Add(1)
	select {
	case <-g.opened:
		return g.counts.Coverage(ctx)
	case <-ctx.Done():
		return nil, time.Time{}, ctx.Err()
	}
}

// wantBegun waits until nothing goes on, and compares the number of lists that were begun.
func (g *gated) wantBegun(t *testing.T, when string, want int64) {
	t.Helper()
	synctest.Wait()
	if got := g.begun.Load(); got != want {
		t.Errorf("%s: %d lists were begun, want %d", when, got, want)
	}
}

// gatedTraffic returns a service with 30 apps, and the counts of it.
func gatedTraffic(t *testing.T) (*management.Service, *gated) {
	t.Helper()
	g := &gated{counts: &counts{apps: map[string]*history{}}, opened: make(chan struct{})}
	source := evidence.New(g)
	source.Open(g)
	return listingWith(t, 30, source), g
}

// firstPage asks for the first page of the list of some hours. It returns the token of the next page, by
// which lists differ.
func firstPage(ctx context.Context, service *management.Service, hours int) (next string, err error) {
	page, err := service.ListReadiness(ctx, &pb.ListReadinessRequest{
		PageSize: 10, Window: durationpb.New(time.Duration(hours) * time.Hour),
	})
	return page.GetNextPageToken(), err
}

// nextPage asks for a later page of the list of some hours.
func nextPage(ctx context.Context, service *management.Service, hours int, token string) error {
	_, err := service.ListReadiness(ctx, &pb.ListReadinessRequest{
		PageSize: 10, PageToken: token, Window: durationpb.New(time.Duration(hours) * time.Hour),
	})
	return err
}

// as returns the context of a call by an identity.
func as(t *testing.T, name string) (ctx context.Context) {
	t.Helper()
	_, err := identity.Guard(named(name), "s")(t.Context(), nil, &grpc.UnaryServerInfo{FullMethod: "/s/List"},
		func(of context.Context, _ any) (any, error) { ctx = of; return nil, nil })
	check.NoError(t, err)
	return ctx
}

type named string

func (n named) Identify(context.Context) (identity.Identity, error) {
	return identity.Identity{Name: string(n), Role: identity.Viewer}, nil
}

// TestFirstPagesShareOneList: many callers that ask at the same time cost as much as one. They get the list
// also when the caller leaves that asked first.
func TestFirstPagesShareOneList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service, g := gatedTraffic(t)
		ctx, leave := context.WithCancel(as(t, "first"))
		var callers sync.WaitGroup
		callers.Go(func() {
			if _, err := firstPage(ctx, service, 24); !errors.Is(err, context.Canceled) {
				t.Errorf("the caller that left: %v", err)
			}
		})
		synctest.Wait()
		tokens := make([]string, 20)
		for i := range tokens {
			callers.Go(func() { tokens[i] = check.Must(firstPage(as(t, "others"), service, 24))(t) })
		}
		g.wantBegun(t, "while callers wait", 1)
		leave()
		synctest.Wait()
		close(g.opened)
		callers.Wait()
		g.wantBegun(t, "afterwards", 1)
		for _, token := range tokens {
			if token == "" || token != tokens[0] {
				t.Fatalf("the callers got several lists: %q", tokens)
			}
		}
		check.NoError(t, nextPage(t.Context(), service, 24, tokens[0]))
	})
}

// TestFewListsAtOnce: two lists are made at a time. Callers wait for further ones within their deadlines, and
// nobody makes a list that nobody waits for.
func TestFewListsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service, g := gatedTraffic(t)
		var callers sync.WaitGroup
		ask := func(hours int) {
			callers.Go(func() { check.Must(firstPage(t.Context(), service, hours))(t) })
			synctest.Wait()
		}
		ask(2)
		ask(3)
		hurry, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		callers.Go(func() {
			if _, err := firstPage(hurry, service, 4); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
				t.Errorf("a caller without patience: %v after %v", err, time.Since(began))
			}
		})
		for range 3 {
			ask(5)
		}
		g.wantBegun(t, "at once", 2)
		time.Sleep(2 * time.Second)
		close(g.opened)
		callers.Wait()
		g.wantBegun(t, "afterwards", 3)
		check.Must(firstPage(t.Context(), service, 4))(t)
		g.wantBegun(t, "for a caller that comes back", 4)
	})
}

// TestAbandonedList: the making of a list ends by itself when the counts do not come.
func TestAbandonedList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service, g := gatedTraffic(t)
		began := time.Now()
		_, err := firstPage(t.Context(), service, 24)
		wantFailure(t, err, failure{codes.Unavailable, "USAGE_UNAVAILABLE", ""})
		if took := time.Since(began); took != 2*time.Minute {
			t.Errorf("it took %v", took)
		}
		close(g.opened)
		check.Must(firstPage(t.Context(), service, 24))(t)
	})
}

// TestFirstPagesOfSomeSeconds: a list serves first pages for 5 s, unless many other lists were made since. A
// failure serves none.
func TestFirstPagesOfSomeSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service, g := gatedTraffic(t)
		close(g.opened)
		g.away = true
		if _, err := firstPage(t.Context(), service, 24); err == nil {
			t.Error("a list was made without counts")
		}
		g.away = false
		check.Must(firstPage(t.Context(), service, 24))(t)
		g.wantBegun(t, "after a failure", 2)
		time.Sleep(5*time.Second - time.Millisecond)
		check.Must(firstPage(t.Context(), service, 24))(t)
		g.wantBegun(t, "within 5 s", 2)
		time.Sleep(2 * time.Millisecond)
		check.Must(firstPage(t.Context(), service, 24))(t)
		g.wantBegun(t, "after 5 s", 3)
		for hours := range 3 {
			check.Must(firstPage(t.Context(), service, 2+hours))(t)
		}
		check.Must(firstPage(t.Context(), service, 24))(t)
		g.wantBegun(t, "after three others", 6)
		check.Must(firstPage(t.Context(), service, 5))(t)
		check.Must(firstPage(t.Context(), service, 24))(t)
		g.wantBegun(t, "after four others", 8)
	})
}

// TestWindowsOfOneList: the counts are kept by hour, and by day for longer windows. So windows that begin in
// the same hour or day share a list.
func TestWindowsOfOneList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(30 * time.Minute) // the fake time begins with an hour and a day
		service, g := gatedTraffic(t)
		close(g.opened)
		for i, window := range []time.Duration{
			24 * time.Hour, 24*time.Hour - 20*time.Minute, 24*time.Hour + 20*time.Minute, 25 * time.Hour, // two lists
			10 * 24 * time.Hour, 10*24*time.Hour + 20*time.Minute, 10*24*time.Hour - 20*time.Hour, 11 * 24 * time.Hour, // two lists
		} {
			request := &pb.ListReadinessRequest{Window: durationpb.New(window)}
			check.Must(service.ListReadiness(t.Context(), request))(t)
			g.wantBegun(t, window.String(), []int64{1, 1, 1, 2, 3, 3, 3, 4}[i])
		}
	})
}

// TestNextPagesOfOthers: a caller that lists again and again ends its own lists, not those of others.
func TestNextPagesOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service, g := gatedTraffic(t)
		close(g.opened)
		quiet, busy := as(t, "quiet"), as(t, "busy")
		token := check.Must(firstPage(quiet, service, 24))(t)
		var tokens []string
		for n := range 20 {
			time.Sleep(10 * time.Second)
			tokens = append(tokens, check.Must(firstPage(busy, service, 2+n))(t))
		}
		check.NoError(t, nextPage(quiet, service, 24, token))
		check.NoError(t, nextPage(busy, service, 2+12, tokens[12]))
		wantFailure(t, nextPage(busy, service, 2+11, tokens[11]), invalid("page_token"))
	})
}
