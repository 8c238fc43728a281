package management_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/testkit/check"
	pb "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/authority/internal/evidence"
	"github.com/countersign/countersign/services/authority/internal/fleet"
	"github.com/countersign/countersign/services/authority/internal/ledger"
	"github.com/countersign/countersign/services/authority/internal/management"
	"github.com/countersign/countersign/services/test/cluster"
)

// history is what was counted of one app.
type history struct {
	sums    []ledger.Sum
	uses    []ledger.LastUse
	counted ledger.Counted
}

func (h *history) Sums(since time.Time) ([]ledger.Sum, time.Time) {
	return h.sums, since.Truncate(time.Hour)
}
func (h *history) LastUses() []ledger.LastUse { return h.uses }
func (h *history) Counted() ledger.Counted    { return h.counted }

// counts are usage counts in memory.
type counts struct {
	apps     map[string]*history
	coverage []ledger.Coverage
	since    time.Time
	members  []fleet.Instance
	// away makes every read fail.
	away bool
	// reading is called by each read of one app's counts; nil does nothing.
	reading func(ctx context.Context)
}

var errCountsAway = errors.New("the counts are away")

func (c *counts) App(ctx context.Context, appID string) (evidence.History, error) {
	if c.reading != nil {
		c.reading(ctx)
	}
	if c.away {
		return nil, errCountsAway
	}
	if h := c.apps[appID]; h != nil {
		return h, nil
	}
	return &history{}, nil
}

func (c *counts) Apps(ctx context.Context, _ int, appIDs []string) (map[string]evidence.History, error) {
	found := map[string]evidence.History{}
	for _, id := range appIDs {
		h, err := c.App(ctx, id)
		if err != nil {
			return nil, err
		}
		found[id] = h
	}
	return found, nil
}

func (c *counts) Coverage(context.Context) ([]ledger.Coverage, time.Time, error) {
	if c.away {
		return nil, time.Time{}, errCountsAway
	}
	return c.coverage, c.since, nil
}

func (c *counts) Instances() ([]fleet.Instance, error) { return c.members, nil }

// counted is a world, and an authority in it that reads its counts from the memory of the test.
type counted struct {
	*world
	*counts
	service *management.Service
}

func newCounted(t *testing.T) *counted {
	t.Helper()
	w := newWorldWith(t, cluster.Options{})
	c := &counted{world: w, counts: &counts{apps: map[string]*history{}}}
	source := evidence.New(c.counts)
	source.Open(c.counts)
	c.service = management.New(stuckFleet{}, source)
	c.service.Open(w.store(t))
	return c
}

// count sets what was counted of an app.
func (c *counts) count(app string, sums ...ledger.Sum) { c.apps[app] = &history{sums: sums} }

// sum is a number of requests.
func sum(tokenID string, scope pb.Scope, reason policy.Reason, n uint64) ledger.Sum {
	return ledger.Sum{Kind: ledger.Kind{TokenID: tokenID, Scope: policy.Scope(scope), Reason: reason}, N: n}
}

// violations returns the types of the violations of an error, each once, and its readiness report.
func violations(err error) (types []string, report *pb.Readiness) {
	seen := map[string]bool{}
	for _, detail := range status.Convert(err).Details() {
		switch d := detail.(type) {
		case *errdetails.PreconditionFailure:
			for _, v := range d.GetViolations() {
				if !seen[v.GetType()] {
					types = append(types, v.GetType())
				}
				seen[v.GetType()] = true
			}
		case *pb.Readiness:
			report = d
		}
	}
	return types, report
}

// TestB21_CountsThatBeganLater: what is missing from before an app was created does not matter to it. What is
// missing since then makes its report incomplete.
func TestB21_CountsThatBeganLater(t *testing.T) {
	c := newCounted(t)
	app := newApp()
	id := c.create(t, app, "a", events).GetToken().GetTokenId()
	c.count(app, sum(id, events, policy.TokenValid, 100))
	const ready = pb.ReadinessVerdict_READINESS_VERDICT_READY
	const incomplete = pb.ReadinessVerdict_READINESS_VERDICT_INCOMPLETE
	before, after := time.Now().Add(-time.Hour), time.Now().Add(time.Minute)
	for name, tt := range map[string]struct {
		since   time.Time
		counted ledger.Counted
		want    pb.ReadinessVerdict
	}{
		"before the app":              {before, ledger.Counted{Since: before}, ready},
		"after the app":               {after, ledger.Counted{Since: after}, incomplete},
		"in its partition only":       {before, ledger.Counted{Since: after}, incomplete},
		"the coverage only":           {after, ledger.Counted{Since: before}, incomplete},
		"before the app, and damaged": {before, ledger.Counted{Since: before, Damaged: true}, incomplete},
	} {
		t.Run(name, func(t *testing.T) {
			c.since, c.apps[app].counted = tt.since, tt.counted
			answer := check.Must(c.service.GetReadiness(t.Context(), &pb.GetReadinessRequest{AppId: app}))(t)
			if got := answer.GetReadiness().GetVerdict(); got != tt.want {
				t.Errorf("the verdict is %v, want %v: %q", got, tt.want, answer.GetReadiness().GetMissing())
			}
			if (tt.want == incomplete) != (len(answer.GetReadiness().GetMissing()) == 1) {
				t.Errorf("missing: %q", answer.GetReadiness().GetMissing())
			}
		})
	}
}
