package e2e

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	authority "github.com/countersign/countersign/services/authority/server"
	"github.com/countersign/countersign/services/test/cluster"
	validator "github.com/countersign/countersign/services/validator/server"
)

// kind is what requests are counted by.
type kind struct {
	scope   countersignv1.Scope
	tokenID string
	reason  countersignv1.Reason
}

// sent counts requests by kind.
type sent map[kind]uint64

// TestB21_EveryRequestIsCountedOnce: three validators get known traffic while authorities restart, replies of
// the usage counts' Redis are lost, connections to it are refused, and it fails over and loses writes. In the
// end every count equals what was sent. The report says that the counts are complete when the validators have
// left.
func TestB21_EveryRequestIsCountedOnce(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	counts := redistest.Start(t)
	proxy := redistest.NewProxy(t, counts.Address())
	client := check.Must(redisfeed.Open(counts.URL(), redisfeed.Options{}))(t)
	t.Cleanup(func() { client.Close() })

	w := start(t, cluster.Options{Authorities: 1, Report: true})
	for _, p := range w.ValidatorProcesses {
		p.Stop() // their counts would go to the store's Redis
	}
	w.AuthorityProcesses[0].Stop()
	begin := func(address string) *cluster.Process {
		return w.StartAuthorityWith(t, address, func(c *authority.Config) { c.UsageRedisURL = proxy.URL() })
	}
	authorities := []*cluster.Process{begin(w.Authority), begin("127.0.0.1:0")}
	var validators []*cluster.Process
	var deciders []countersignv1.ValidatorServiceClient
	for i := range 3 {
		v := w.StartValidator(t, func(c *validator.Config) {
			c.Fleet = w.Fleet(fmt.Sprint("counted-", i+1), authorities[i%2].Address)
		})
		validators = append(validators, v)
		deciders = append(deciders, countersignv1.NewValidatorServiceClient(check.Dial(t, v.Address)))
	}
	w.deciders = deciders
	requests := w.knownTraffic()

	ctx, stop := context.WithTimeout(t.Context(), 40*time.Second)
	defer stop()
	var traffic sync.WaitGroup
	results := make([]sent, len(deciders))
	for i, decider := range deciders {
		traffic.Go(func() { results[i] = ask(ctx, t, decider, requests, rand.New(rand.NewPCG(seed, uint64(i)))) })
	}
	r := rand.New(rand.NewPCG(seed, 100))
	for ctx.Err() == nil {
		switch r.IntN(4) {
		case 0:
			i := r.IntN(2)
			address := authorities[i].Address
			authorities[i].Stop()
			authorities[i] = begin(address)
		case 1:
			proxy.SwallowReplies()
			pauseFor(ctx, upTo(r, 3*time.Second))
			proxy.Restore()
		case 2:
			proxy.Refuse()
			pauseFor(ctx, upTo(r, 2*time.Second))
			proxy.Restore()
		case 3:
			lose := keepCopy(t, client)
			pauseFor(ctx, upTo(r, 6*time.Second))
			lose()
		}
		pauseFor(ctx, upTo(r, time.Second))
	}
	traffic.Wait()
	want := sent{}
	for _, of := range results {
		for k, n := range of {
			want[k] += n
		}
	}
	if len(want) < len(requests) {
		t.Fatalf("got answers of %d kinds, want %d", len(want), len(requests))
	}
	check.Eventually(t, "all requests are counted", func() error { return w.counted(want) })
	for _, v := range validators {
		v.Stop()
	}
	check.NoError(t, w.counted(want))
	got, err := w.management.GetReadiness(w.admin, &countersignv1.GetReadinessRequest{AppId: "counted"})
	if check.NoError(t, err); len(got.GetReadiness().GetMissing()) != 0 {
		t.Errorf("after all validators have left: got missing %q, want none", got.GetReadiness().GetMissing())
	}
}

// keepCopy keeps the keys of a Redis. The returned function puts them back, as a failover that loses later
// writes.
func keepCopy(t *testing.T, client *redisfeed.Client) (lose func()) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	kept := map[string]string{}
	for _, key := range check.Must(client.Keys(ctx, "*").Result())(t) {
		kept[key] = client.Dump(ctx, key).Val()
	}
	return func() {
		pipe := client.TxPipeline()
		pipe.FlushAll(ctx)
		for key, raw := range kept {
			if raw != "" {
				pipe.RestoreReplace(ctx, key, 0, raw)
			}
		}
		if _, err := pipe.Exec(ctx); err != nil {
			t.Error(err)
		}
	}
}

// asked is one kind of request, with the reason that its answer must have.
type asked struct {
	request *countersignv1.AuthorizeRequest
	token   string
	reason  countersignv1.Reason
}

// knownTraffic creates the app counted, and returns one request of each kind (B19).
func (w *world) knownTraffic() []asked {
	w.t.Helper()
	check.Eventually(w.t, "the authority serves", func() error {
		_, err := w.management.ListApps(w.admin, &countersignv1.ListAppsRequest{})
		return err
	})
	create := func(app, name string, scopes ...countersignv1.Scope) *countersignv1.CreateTokenResponse {
		return check.Must(w.management.CreateToken(w.admin, &countersignv1.CreateTokenRequest{
			AppId: app, Name: name, Scopes: scopes,
		}))(w.t)
	}
	update := func(token string, field string, change func(*countersignv1.UpdateTokenRequest)) string {
		request := &countersignv1.UpdateTokenRequest{
			AppId: "counted", Token: &countersignv1.Token{TokenId: token}, AllowLockout: true,
			UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{field}},
		}
		change(request)
		return check.Must(w.management.UpdateToken(w.admin, request))(w.t).GetConsistencyToken()
	}
	valid, disabled := create("counted", "valid", events), create("counted", "disabled", events)
	expired, revoked := create("counted", "expired", events), create("counted", "revoked", events)
	unscoped, other := create("counted", "unscoped"), create("other", "other", events)
	update(disabled.GetToken().GetTokenId(), "state", func(r *countersignv1.UpdateTokenRequest) {
		r.Token.State = countersignv1.TokenState_TOKEN_STATE_DISABLED
	})
	update(expired.GetToken().GetTokenId(), "expire_time", func(r *countersignv1.UpdateTokenRequest) {
		r.Ttl = durationpb.New(0)
	})
	last := check.Must(w.management.RevokeToken(w.admin, &countersignv1.RevokeTokenRequest{
		AppId: "counted", TokenId: revoked.GetToken().GetTokenId(),
	}))(w.t).GetConsistencyToken()
	of := func(r *countersignv1.CreateTokenResponse, scope countersignv1.Scope, reason countersignv1.Reason) asked {
		return asked{
			&countersignv1.AuthorizeRequest{AppId: "counted", Token: r.GetSecret(), Scope: scope}, r.GetToken().GetTokenId(), reason,
		}
	}
	none := func(token string, reason countersignv1.Reason) asked {
		return asked{&countersignv1.AuthorizeRequest{AppId: "counted", Token: token, Scope: events}, "", reason}
	}
	manager := none("", countersignv1.Reason_REASON_SOURCE_NOT_SUPPORTED)
	manager.request.Source = countersignv1.Source_SOURCE_GOOGLE_TAG_MANAGER
	all := []asked{
		of(valid, events, countersignv1.Reason_REASON_TOKEN_VALID),
		of(valid, adRevenue, countersignv1.Reason_REASON_SCOPE_NOT_GRANTED),
		of(disabled, events, countersignv1.Reason_REASON_TOKEN_DISABLED),
		of(expired, events, countersignv1.Reason_REASON_TOKEN_EXPIRED),
		of(revoked, events, countersignv1.Reason_REASON_TOKEN_REVOKED),
		of(unscoped, sessions, countersignv1.Reason_REASON_TOKEN_VALID_UNSCOPED),
		none("", countersignv1.Reason_REASON_TOKEN_MISSING),
		none("no secret", countersignv1.Reason_REASON_TOKEN_MALFORMED),
		none(other.GetSecret(), countersignv1.Reason_REASON_TOKEN_UNKNOWN),
		manager,
	}
	// These requests are counted too, so they are for a scope that the others do not use.
	for _, decider := range w.deciders {
		check.Eventually(w.t, "the validator serves", func() error {
			_, err := decider.Authorize(w.t.Context(), &countersignv1.AuthorizeRequest{
				AppId: "counted", Scope: countersignv1.Scope_SCOPE_GDPR, MinRevision: last,
			})
			return err
		})
	}
	return all
}

// ask sends requests to a validator until ctx ends, and counts the answers.
func ask(ctx context.Context, t *testing.T, decider countersignv1.ValidatorServiceClient, all []asked, r *rand.Rand) sent {
	counted := sent{}
	for ctx.Err() == nil {
		for range 1 + r.IntN(20) {
			one := all[r.IntN(len(all))]
			answer, err := decider.Authorize(context.WithoutCancel(ctx), one.request)
			if err != nil || answer.GetReason() != one.reason || answer.GetTokenId() != one.token {
				t.Errorf("got %v, %v; want the reason %s and the token %q", answer, err, one.reason, one.token)
				return counted
			}
			counted[kind{one.request.GetScope(), one.token, one.reason}]++
		}
		pauseFor(ctx, upTo(r, 20*time.Millisecond))
	}
	return counted
}

// counted compares the report on the app counted with what was sent. The report names rejected requests one
// by one, and tells the number of accepted requests of each scope.
func (w *world) counted(all sent) error {
	response, err := w.management.GetReadiness(w.admin, &countersignv1.GetReadinessRequest{AppId: "counted"})
	if err != nil {
		return err
	}
	got, want := sent{}, sent{}
	for _, s := range response.GetReadiness().GetScopes() {
		if s.GetScope() == countersignv1.Scope_SCOPE_GDPR {
			continue // see knownTraffic
		}
		accepted := s.GetRequests()
		for _, n := range s.GetRejections() {
			got[kind{s.GetScope(), n.GetTokenId(), n.GetReason()}] += n.GetCount()
			accepted -= n.GetCount()
		}
		if accepted > 0 {
			got[kind{scope: s.GetScope()}] = accepted
		}
	}
	for k, n := range all {
		switch k.reason {
		case countersignv1.Reason_REASON_TOKEN_VALID, countersignv1.Reason_REASON_TOKEN_VALID_UNSCOPED:
			k = kind{scope: k.scope}
		}
		want[k] += n
	}
	if !maps.Equal(got, want) {
		return fmt.Errorf("got %v, want %v", got, want)
	}
	return nil
}

func pauseFor(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func upTo(r *rand.Rand, d time.Duration) time.Duration { return time.Duration(r.Int64N(int64(d))) }
