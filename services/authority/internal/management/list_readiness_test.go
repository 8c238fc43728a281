package management_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/testkit/check"
	pb "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/authority/internal/evidence"
	"github.com/countersign/countersign/services/authority/internal/fleet"
	"github.com/countersign/countersign/services/authority/internal/management"
)

// appNumber and tokenNumber are the ids that listing gives out. Those of tokens have the usual form.
func appNumber(n int) string { return fmt.Sprintf("app%09d", n) }

func tokenNumber(n int) string {
	return "tok_" + strings.Map(func(digit rune) rune { return digit - '0' + 'a' }, fmt.Sprintf("%016d", n))
}

// traffic returns a service with a number of apps, and the counts of it.
func traffic(t testing.TB, apps int) (*management.Service, *counts) {
	t.Helper()
	c := &counts{apps: map[string]*history{}}
	source := evidence.New(c)
	source.Open(c)
	return listingWith(t, apps, source), c
}

// TestB21_ListReadiness: all apps, the worst first: NOT_READY by rejected requests, then INCOMPLETE,
// NO_TRAFFIC and READY. Every page shows the state at the first one.
func TestB21_ListReadiness(t *testing.T) {
	const apps = 250
	service, c := traffic(t, apps)
	for n := range apps {
		switch n % 3 {
		case 0:
			c.count(appNumber(n), sum("", events, policy.TokenMissing, uint64(n+1)))
		case 1:
			c.count(appNumber(n), sum(tokenNumber(n), events, policy.TokenValidUnscoped, 5))
		}
	}
	walk := func(service *management.Service, meanwhile func()) (all []*pb.Readiness) {
		t.Helper()
		request := &pb.ListReadinessRequest{PageSize: 40}
		for {
			page := check.Must(service.ListReadiness(t.Context(), request))(t)
			if len(page.GetApps()) > 40 || len(page.GetUnreachable()) != 0 {
				t.Fatalf("a page of %d, unreachable %v", len(page.GetApps()), page.GetUnreachable())
			}
			all = append(all, page.GetApps()...)
			if request.PageToken = page.GetNextPageToken(); request.PageToken == "" {
				return all
			}
			meanwhile()
		}
	}
	verdicts := func(all []*pb.Readiness) (of []pb.ReadinessVerdict) {
		for _, r := range all {
			of = append(of, r.GetVerdict())
		}
		return slices.Compact(of)
	}
	all := walk(service, func() {
		for n := range apps {
			c.count(appNumber(n), sum("", events, policy.TokenMissing, 7))
		}
	})
	if want := []pb.ReadinessVerdict{notReadyVerdict, noTrafficVerdict, readyVerdict}; !slices.Equal(verdicts(all), want) {
		t.Errorf("got %v, want %v", verdicts(all), want)
	}
	seen := map[string]bool{}
	last := uint64(apps + 1)
	for _, r := range all {
		if seen[r.GetAppId()] {
			t.Errorf("%s is listed twice", r.GetAppId())
		}
		seen[r.GetAppId()] = true
		if r.GetVerdict() == notReadyVerdict {
			rejected := r.GetScopes()[0].GetRejected()
			if rejected > last || len(r.GetBlockers()) == 0 {
				t.Errorf("%v comes after %d rejected requests", r, last)
			}
			last = rejected
		}
		if len(r.GetTokens()) != 0 || len(r.GetNotices()) != 0 ||
			slices.ContainsFunc(r.GetScopes(), func(s *pb.ScopeReadiness) bool { return len(s.GetRejections()) != 0 }) {
			t.Errorf("the short report has details: %v", r)
		}
	}
	if len(seen) != apps {
		t.Errorf("%d apps of %d are listed", len(seen), apps)
	}

	service, c = traffic(t, apps)
	c.count(appNumber(0), sum("", events, policy.TokenMissing, 7))
	c.count(appNumber(1), sum(tokenNumber(1), events, policy.TokenValidUnscoped, 5))
	c.members = []fleet.Instance{{ID: "v1", InstanceID: "i1", Start: time.Now().Add(-time.Hour), Reporting: true}}
	all = walk(service, func() {})
	if want := []pb.ReadinessVerdict{notReadyVerdict, incompleteVerdict}; !slices.Equal(verdicts(all), want) ||
		len(all[apps-1].GetMissing()) != 1 {
		t.Errorf("with a silent validator: got %v, the last is %v", verdicts(all), all[apps-1])
	}
}

const (
	readyVerdict      = pb.ReadinessVerdict_READINESS_VERDICT_READY
	notReadyVerdict   = pb.ReadinessVerdict_READINESS_VERDICT_NOT_READY
	noTrafficVerdict  = pb.ReadinessVerdict_READINESS_VERDICT_NO_TRAFFIC
	incompleteVerdict = pb.ReadinessVerdict_READINESS_VERDICT_INCOMPLETE
)

// TestListReadinessPageTokens: a page token is good for the list and the window that it was made for, while
// the list is kept.
func TestListReadinessPageTokens(t *testing.T) {
	service, c := traffic(t, 30)
	first := check.Must(service.ListReadiness(t.Context(), &pb.ListReadinessRequest{PageSize: 10}))(t)
	ask := func(token string, window *durationpb.Duration) error {
		_, err := service.ListReadiness(t.Context(), &pb.ListReadinessRequest{PageSize: 10, PageToken: token, Window: window})
		return err
	}
	if err := ask(first.GetNextPageToken(), nil); err != nil {
		t.Error(err)
	}
	wantFailure(t, ask(first.GetNextPageToken(), durationpb.New(time.Hour)), invalid("page_token"))
	for n := range 8 { // more lists than are kept
		other := durationpb.New(time.Duration(n+2) * time.Hour)
		check.Must(service.ListReadiness(t.Context(), &pb.ListReadinessRequest{PageSize: 10, Window: other}))(t)
	}
	wantFailure(t, ask(first.GetNextPageToken(), nil), invalid("page_token"))
	c.away = true
	wantFailure(t, ask("", durationpb.New(30*time.Hour)), failure{codes.Unavailable, "USAGE_UNAVAILABLE", ""})
}
