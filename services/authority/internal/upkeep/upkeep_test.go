package upkeep_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/testkit/check"
	pb "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/authority/internal/evidence"
	"github.com/countersign/countersign/services/authority/internal/fleet"
	"github.com/countersign/countersign/services/authority/internal/ledger"
	"github.com/countersign/countersign/services/authority/internal/notify"
	"github.com/countersign/countersign/services/authority/internal/upkeep"
	"github.com/countersign/countersign/services/store"
	"github.com/countersign/countersign/services/test/cluster"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const events = pb.Scope_SCOPE_EVENTS

// counts are usage counts in memory.
type counts struct {
	uses     map[string][]ledger.LastUse
	sums     map[string][]ledger.Sum
	coverage []ledger.Coverage
	since    time.Time
	counted  ledger.Counted
	members  []fleet.Instance
}

// history is what was counted of one app.
type history struct {
	sums    []ledger.Sum
	uses    []ledger.LastUse
	counted ledger.Counted
}

func (h history) Sums(since time.Time) ([]ledger.Sum, time.Time) { return h.sums, since }
func (h history) LastUses() []ledger.LastUse                     { return h.uses }
func (h history) Counted() ledger.Counted                        { return h.counted }

func (c *counts) App(_ context.Context, appID string) (evidence.History, error) {
	return history{c.sums[appID], c.uses[appID], c.counted}, nil
}

func (c *counts) Apps(_ context.Context, _ int, appIDs []string) (map[string]evidence.History, error) {
	found := map[string]evidence.History{}
	for _, id := range appIDs {
		found[id] = history{c.sums[id], c.uses[id], c.counted}
	}
	return found, nil
}

func (c *counts) Coverage(context.Context) ([]ledger.Coverage, time.Time, error) {
	return c.coverage, c.since, nil
}
func (c *counts) Instances() ([]fleet.Instance, error) { return c.members, nil }

// world is a Countersign whose authority does the management, and a keeper beside it.
type world struct {
	*cluster.Cluster
	*counts
	pb.AuthorityServiceClient
	ctx     context.Context
	client  *redisfeed.Client
	store   *store.Store
	errands *store.Errands
	keeper  *upkeep.Keeper
	metrics *prometheus.Registry
	rows    []*pb.AuditEvent
}

func newWorld(t *testing.T) *world {
	t.Helper()
	c := cluster.Start(t, cluster.Options{})
	w := &world{
		Cluster: c, AuthorityServiceClient: pb.NewAuthorityServiceClient(check.Dial(t, c.Authority)),
		counts: &counts{uses: map[string][]ledger.LastUse{}, sums: map[string][]ledger.Sum{}},
		ctx:    metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+c.AdminKey.Reveal()),
	}
	w.client = check.Must(redisfeed.Open(c.RedisURL, redisfeed.Options{}))(t)
	t.Cleanup(func() { w.client.Close() })
	meta := check.Must(w.client.Meta(t.Context(), c.Ring))(t)
	log := slog.New(slog.DiscardHandler)
	r := replica.New(redisfeed.New(w.client, meta.Partitions), record.NewCodec(c.Ring, meta), log)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- r.Run(ctx) }()
	t.Cleanup(func() { stop(); check.NoError(t, <-ended) })
	check.NoError(t, r.WaitLoaded(t.Context()))
	options := store.Options{Audit: func(event *pb.AuditEvent, _, _ *record.Document) {
		w.rows = append(w.rows, proto.CloneOf(event))
	}}
	w.store = store.New(store.Over(w.client, meta.Partitions, options), r, options, log)
	w.errands = store.NewErrands(w.client, w.store.Replica().Codec().StoreID())
	w.keeper, w.metrics = w.newKeeper()
	return w
}

// leaseKey is the key of the lease of the upkeep.
func (w *world) leaseKey() string {
	return "csu:" + w.store.Replica().Codec().StoreID()[:8] + ":upkeep"
}

func (w *world) newKeeper() (*upkeep.Keeper, *prometheus.Registry) {
	log, registry := slog.New(slog.DiscardHandler), prometheus.NewRegistry()
	source := evidence.New(w.counts)
	source.Open(w.counts)
	return upkeep.New(upkeep.Config{
		Lease: w.errands, Store: w.store, Evidence: source, Metrics: upkeep.NewMetrics(registry), Log: log,
		Outbox: notify.NewOutbox(w.errands, nil, notify.NewMetrics(registry), log),
	}), registry
}

// round does one round, after the replica has every change.
func (w *world) round(t *testing.T) {
	t.Helper()
	check.NoError(t, w.store.Replica().Confirm(t.Context()))
	check.NoError(t, w.keeper.Round(t.Context()))
}

// rotate rotates a new token of an app, as if some time ago. It returns the ids of the old and the new token.
func (w *world) rotate(t *testing.T, app string, ago, unused time.Duration) (old, next string) {
	t.Helper()
	old = check.Must(w.CreateToken(w.ctx, &pb.CreateTokenRequest{AppId: app, Name: "a", Scopes: []pb.Scope{events}}))(t).
		GetToken().GetTokenId()
	next = check.Must(w.RotateToken(w.ctx, &pb.RotateTokenRequest{
		AppId: app, TokenId: old, UntilUnused: durationpb.New(unused),
	}))(t).GetToken().GetTokenId()
	check.NoError(t, w.store.Replica().Confirm(t.Context()))
	check.Must(w.store.Update(t.Context(), store.Call{
		AppID: app,
		Change: func(before *record.Document) (*record.Document, error) {
			after := *before
			after.Tokens = slices.Clone(before.Tokens)
			after.Tokens[1].CreateMillis = time.Now().Add(-ago).UnixMilli()
			return &after, nil
		},
		Answer: func(*record.Document, record.Position) proto.Message { return nil },
	}))(t)
	return old, next
}

func (w *world) state(t *testing.T, app, id string) pb.TokenState {
	t.Helper()
	return check.Must(w.GetToken(w.ctx, &pb.GetTokenRequest{AppId: app, TokenId: id}))(t).GetToken().GetState()
}

func used(id string, ago time.Duration) []ledger.LastUse {
	return []ledger.LastUse{{TokenID: id, Scope: policy.Scope(events), Minute: time.Now().Add(-ago).Truncate(time.Minute)}}
}

// TestB09_UnusedRotationsEnd: the old token of a rotation ends once it was not used for long enough, and the
// counts are complete for that time. The audit row names nobody but the product.
func TestB09_UnusedRotationsEnd(t *testing.T) {
	w := newWorld(t)
	const active, expired = pb.TokenState_TOKEN_STATE_ACTIVE, pb.TokenState_TOKEN_STATE_EXPIRED
	ago := func(d time.Duration) time.Time { return time.Now().Add(-d) }
	instance := func(change func(*fleet.Instance)) []fleet.Instance {
		i := fleet.Instance{
			ID: "v1", InstanceID: "i1", Start: ago(50 * time.Hour), Heard: time.Now(), ClockKnown: true, Reporting: true,
		}
		change(&i)
		return []fleet.Instance{i}
	}
	live := instance(func(*fleet.Instance) {})
	skewed := func(ahead time.Duration) []fleet.Instance {
		return instance(func(i *fleet.Instance) { i.Ahead = ahead })
	}
	covered := func(until time.Duration) []ledger.Coverage {
		return []ledger.Coverage{{ValidatorID: "v1", InstanceID: "i1", Start: ago(50 * time.Hour), Until: ago(until)}}
	}
	killed := func(until, heard time.Duration) []ledger.Coverage {
		return append(covered(time.Second), ledger.Coverage{
			ValidatorID: "v2", InstanceID: "i2", Start: ago(50 * time.Hour), Until: ago(until), Heard: ago(heard),
		})
	}
	const second, hour = time.Second, time.Hour
	for i, tt := range []struct {
		name      string
		ago, use  time.Duration // use is 0 for never
		members   []fleet.Instance
		coverage  []ledger.Coverage
		since     time.Time
		counted   ledger.Counted
		wantEnded bool
	}{
		{name: "never used", ago: 25 * hour, wantEnded: true},
		{name: "used long ago", ago: 50 * hour, use: 25 * hour, wantEnded: true},
		{name: "used lately", ago: 50 * hour, use: 23 * hour},
		{name: "rotated lately", ago: 23 * hour, use: 30 * hour},
		{name: "counts are missing", ago: 25 * hour, coverage: covered(time.Minute)},
		{name: "a validator was killed meanwhile", ago: 25 * hour, coverage: killed(5*hour, 5*hour)},
		{name: "one was killed long ago", ago: 25 * hour, coverage: killed(30*hour, 30*hour), wantEnded: true},
		{name: "one was cut off long ago, and killed meanwhile", ago: 25 * hour, coverage: killed(30*hour, 5*hour)},
		{name: "one does not report, and may still decide", ago: 50 * hour, members: instance(func(i *fleet.Instance) {
			i.Reporting, i.Heard = false, ago(40*hour)
		}), coverage: covered(40 * hour)},
		{name: "Redis was emptied", ago: 25 * hour, since: ago(hour), counted: ledger.Counted{Since: ago(hour)}},
		{name: "the counts of some partitions were lost", ago: 25 * hour, counted: ledger.Counted{Since: ago(hour)}},
		{
			name: "they were lost long ago", ago: 50 * hour, since: ago(30 * hour),
			counted: ledger.Counted{Since: ago(26 * hour)}, wantEnded: true,
		},
		{name: "the counts are damaged", ago: 25 * hour, counted: ledger.Counted{Damaged: true}},
		{name: "used just long enough ago", ago: 50 * hour, use: 24*hour + 30*second, wantEnded: true},
		{
			name: "the same by a clock that is behind", ago: 50 * hour, use: 24*hour + 30*second, members: skewed(-50 * second),
			coverage: covered(51 * second),
		},
		{name: "a clock is wrong", ago: 25 * hour, members: skewed(-2 * time.Minute)},
		{name: "a clock is ahead", ago: 25 * hour, members: skewed(2 * time.Minute)},
		{name: "a clock is unknown", ago: 25 * hour, members: instance(func(i *fleet.Instance) { i.ClockKnown = false })},
	} {
		t.Run(tt.name, func(t *testing.T) {
			app := string(rune('a'+i)) + "pp"
			old, next := w.rotate(t, app, tt.ago, 24*time.Hour)
			if tt.use > 0 {
				w.uses[app] = []ledger.LastUse{{TokenID: old, Scope: policy.Scope(events), Minute: ago(tt.use + time.Minute)}}
			}
			w.members, w.coverage, w.rows = live, covered(time.Second), nil
			if tt.members != nil {
				w.members = tt.members
			}
			if tt.coverage != nil {
				w.coverage = tt.coverage
			}
			w.since, w.counted = tt.since, tt.counted
			rows := func() (own []*pb.AuditEvent) {
				for _, row := range w.rows {
					if row.GetAppId() == app {
						own = append(own, row)
					}
				}
				return own
			}
			w.round(t)
			want := active
			if tt.wantEnded {
				want = expired
			}
			if got := w.state(t, app, old); got != want {
				t.Errorf("the old token is %v, want %v", got, want)
			}
			if got := w.state(t, app, next); got != active {
				t.Errorf("the new token is %v", got)
			}
			if !tt.wantEnded {
				if len(rows()) != 0 {
					t.Errorf("rows %v", rows())
				}
				return
			}
			if len(rows()) != 1 || rows()[0].GetIdentity() != "countersign" || rows()[0].GetRole() != "" ||
				rows()[0].GetMethod() != "EndUnusedToken" || rows()[0].GetAppId() != app {
				t.Errorf("rows %v", rows())
			}
			w.rows = nil
			w.round(t)
			if len(rows()) != 0 {
				t.Errorf("a second round has changed something: %v", rows())
			}
		})
	}
}

// TestOneAppStopsNoOther: an app whose document cannot be read keeps nobody else's rotation open, whatever
// the order of the apps is, and the round says what it could not do.
func TestOneAppStopsNoOther(t *testing.T) {
	w := newWorld(t)
	var apps, old []string
	for i := range 8 {
		app := fmt.Sprint("shop-", i)
		id, _ := w.rotate(t, app, 25*time.Hour, 24*time.Hour)
		apps, old = append(apps, app), append(old, id)
	}
	damaged := map[int]bool{0: true, 3: true, 7: true}
	for i := range damaged {
		hash := policy.HashApp(apps[i])
		keys := record.KeysOf(hash.Partition(record.DefaultPartitions))
		check.NoError(t, w.client.HSet(t.Context(), keys.Policies, apps[i], "damaged").Err())
	}
	check.NoError(t, w.store.Replica().Confirm(t.Context()))
	err := w.keeper.Round(t.Context())
	for i, app := range apps {
		if damaged[i] {
			if !strings.Contains(fmt.Sprint(err), "app "+app) {
				t.Errorf("the error does not name %s: %v", app, err)
			}
			continue
		}
		if got := w.state(t, app, old[i]); got != pb.TokenState_TOKEN_STATE_EXPIRED {
			t.Errorf("%s: the old token is %v", app, got)
		}
	}
}

// TestB29_NoticesAreFound: notices are counted and go into the outbox, once.
func TestB29_NoticesAreFound(t *testing.T) {
	w := newWorld(t)
	id := check.Must(w.CreateToken(w.ctx, &pb.CreateTokenRequest{
		AppId: "shop", Name: "a", Scopes: []pb.Scope{events}, ExpireTime: timestamppb.New(time.Now().Add(time.Hour)),
	}))(t).GetToken().GetTokenId()
	w.uses["shop"] = used(id, time.Hour)
	for range 2 {
		w.round(t)
		if got := check.Must(w.errands.Notices(t.Context()))(t); len(got) != 1 {
			t.Errorf("the outbox is %v", got)
		}
	}
	if n := testutil.CollectAndCount(w.metrics, "countersign_notices"); n != 5 {
		t.Errorf("%d kinds are counted", n)
	}
	families := check.Must(w.metrics.Gather())(t)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() != "countersign_notices" {
				continue
			}
			want := 0.0
			if m.GetLabel()[0].GetValue() == "TOKEN_EXPIRES" {
				want = 1
			}
			if m.GetGauge().GetValue() != want {
				t.Errorf("%v", m)
			}
		}
	}
}

// gauge returns the sum of a metric over its labels.
func (w *world) gauge(t *testing.T, name string) (sum float64) {
	t.Helper()
	for _, family := range check.Must(w.metrics.Gather())(t) {
		for _, m := range family.GetMetric() {
			if family.GetName() == name {
				sum += m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// expiring makes an app with a token that expires and is used.
func (w *world) expiring(t *testing.T, app string) {
	t.Helper()
	id := check.Must(w.CreateToken(w.ctx, &pb.CreateTokenRequest{
		AppId: app, Name: "a", Scopes: []pb.Scope{events}, ExpireTime: timestamppb.New(time.Now().Add(time.Hour)),
	}))(t).GetToken().GetTokenId()
	w.uses[app] = used(id, time.Hour)
}

// TestB29_OneDamagedApp: an app that cannot be read does not keep the notices of other partitions from being
// found and sent.
func TestB29_OneDamagedApp(t *testing.T) {
	w := newWorld(t)
	codec := w.store.Replica().Codec()
	damaged := "damaged"
	good := damaged
	for codec.PartitionOf(good) <= codec.PartitionOf(damaged) {
		good += "x"
	}
	w.expiring(t, damaged)
	w.expiring(t, good)
	check.NoError(t, w.store.Replica().Confirm(t.Context()))
	check.NoError(t, w.client.HSet(t.Context(), record.KeysOf(codec.PartitionOf(damaged)).Policies, damaged, "x").Err())
	if err := w.keeper.Round(t.Context()); err == nil {
		t.Error("the damaged app is no error")
	}
	_ = w.keeper.Round(t.Context())
	if got := check.Must(w.errands.Notices(t.Context()))(t); len(got) != 1 {
		t.Errorf("the outbox is %v", got)
	}
	if n := w.gauge(t, "countersign_notices"); n != 1 {
		t.Errorf("%v notices are counted", n)
	}
}

// TestUpkeepWithoutTheLease: an authority that has lost the lease counts no notices.
func TestUpkeepWithoutTheLease(t *testing.T) {
	w := newWorld(t)
	w.expiring(t, "shop")
	w.round(t)
	for _, want := range []float64{1, 0} {
		for _, name := range []string{"countersign_notices", "countersign_notices_pending"} {
			if got := w.gauge(t, name); got != want {
				t.Errorf("%s is %v, want %v", name, got, want)
			}
		}
		check.NoError(t, w.client.Set(t.Context(), w.leaseKey(), "another", 0).Err())
		w.round(t)
	}
}

// TestUpkeepIsDoneByOne: while one authority has the lease, another one does nothing. It takes over when the
// lease has ended.
func TestUpkeepIsDoneByOne(t *testing.T) {
	w := newWorld(t)
	w.round(t)
	old, _ := w.rotate(t, "shop", 25*time.Hour, 24*time.Hour)
	second, _ := w.newKeeper()
	check.NoError(t, w.store.Replica().Confirm(t.Context()))
	check.NoError(t, second.Round(t.Context()))
	if got := w.state(t, "shop", old); got != pb.TokenState_TOKEN_STATE_ACTIVE {
		t.Errorf("the second keeper did the work of the first: %v", got)
	}
	check.NoError(t, w.client.Del(t.Context(), w.leaseKey()).Err())
	check.NoError(t, second.Round(t.Context()))
	if got := w.state(t, "shop", old); got != pb.TokenState_TOKEN_STATE_EXPIRED {
		t.Errorf("without a lease the second keeper did nothing: %v", got)
	}
	if left := check.Must(w.client.PTTL(t.Context(), w.leaseKey()).Result())(t); left <= 0 {
		t.Errorf("the lease never ends: %v", left)
	}
}
