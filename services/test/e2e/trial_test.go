package e2e

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/testkit/check"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/test/cluster"
	validator "github.com/countersign/countersign/services/validator/server"
)

const (
	tried = "trial0app"
	// trialLength leaves time to stop the authority and Redis while the trial runs, also on a busy machine.
	trialLength = 25 * time.Second
	// fromEach is how many requests of each kind each validator gets before the trial, and decisionsAfter how
	// many without a token it decides after the trial.
	fromEach, decisionsAfter = 40, 50
)

// TestB17_GatedTrialEndsWithoutAuthorityAndRedis: three validators count real traffic. Because of it the gate
// refuses enforcement (B15, B21). It passes a trial after the blocker is mended. While the trial runs, the
// authority and Redis are stopped. Every validator rejects until the end of the trial, and accepts from then
// on, judged by the times at which each decision began and ended.
func TestB17_GatedTrialEndsWithoutAuthorityAndRedis(t *testing.T) {
	w := start(t, cluster.Options{Report: true})
	third := w.StartValidator(t, func(c *validator.Config) { c.Fleet = w.Fleet("validator-3", w.Authority) })
	w.deciders = append(w.deciders, countersignv1.NewValidatorServiceClient(check.Dial(t, third.Address)))
	backend := w.createToken("backend", events)
	ads := w.createToken("ads", adRevenue)
	w.sendTraffic(ads.GetConsistencyToken(), backend.GetSecret(), ads.GetSecret())
	w.awaitCounts(uint64(2 * fromEach * len(w.deciders)))

	trial := &countersignv1.SetEnforcementRequest{AppId: tried, Scopes: []countersignv1.Scope{events}}
	w.wantBlocked(trial, ads.GetToken().GetTokenId())
	check.Must(w.management.UpdateToken(w.admin, &countersignv1.UpdateTokenRequest{
		AppId: tried, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"scopes"}},
		Token: &countersignv1.Token{TokenId: ads.GetToken().GetTokenId(), Scopes: []countersignv1.Scope{events, adRevenue}},
	}))(t)
	var end time.Time
	var set *countersignv1.SetEnforcementResponse
	check.Eventually(t, "the counts are complete on a busy machine too", func() (err error) {
		end = time.Now().Add(trialLength).Truncate(time.Millisecond)
		trial.TrialEndTime, trial.WaitForPropagation = timestamppb.New(end), durationpb.New(trialLength)
		set, err = w.management.SetEnforcement(w.admin, trial)
		return err
	})
	if report := set.GetReadiness(); report.GetVerdict() != countersignv1.ReadinessVerdict_READINESS_VERDICT_READY ||
		report.GetScopes()[0].GetRequests() != uint64(2*fromEach*len(w.deciders)) {
		t.Errorf("the gate has passed with the report %v", report)
	}
	if !set.GetReceipt().GetComplete() || len(set.GetReceipt().GetValidators()) != len(w.deciders) {
		t.Fatalf("not every validator has the trial: %v", set.GetReceipt())
	}

	w.AuthorityProcesses[0].Stop()
	w.Redis.Stop()
	_, err := w.management.GetApp(w.admin, &countersignv1.GetAppRequest{AppId: tried})
	if status.Code(err) != codes.Unavailable {
		t.Errorf("the authority answers: %v", err)
	}
	if !time.Now().Before(end) {
		t.Fatal("the trial was over before the authority and Redis were stopped: make trialLength longer")
	}
	w.decideUntilAfter(end, backend.GetSecret())
}

func (w *world) createToken(name string, scopes ...countersignv1.Scope) *countersignv1.CreateTokenResponse {
	w.t.Helper()
	return check.Must(w.management.CreateToken(w.admin, &countersignv1.CreateTokenRequest{
		AppId: tried, Name: name, Scopes: scopes,
	}))(w.t)
}

// sendTraffic sends requests for EVENTS with each secret to each validator, after it has applied a change.
func (w *world) sendTraffic(since string, secrets ...string) {
	w.t.Helper()
	for _, decider := range w.deciders {
		// The third validator may not serve yet. The scope of this request is another one.
		check.Eventually(w.t, "the validator serves", func() error {
			_, err := decider.Authorize(w.t.Context(), &countersignv1.AuthorizeRequest{
				AppId: tried, Scope: countersignv1.Scope_SCOPE_GDPR, MinRevision: since,
			})
			return err
		})
		for range fromEach {
			for _, secret := range secrets {
				check.Must(decider.Authorize(w.t.Context(), &countersignv1.AuthorizeRequest{
					AppId: tried, Scope: events, Token: secret,
				}))(w.t)
			}
		}
	}
}

// awaitCounts waits until a number of requests for EVENTS are counted.
func (w *world) awaitCounts(want uint64) {
	w.t.Helper()
	check.Eventually(w.t, "the requests are counted", func() error {
		got, err := w.management.GetReadiness(w.admin, &countersignv1.GetReadinessRequest{AppId: tried})
		if err != nil {
			return err
		}
		for _, s := range got.GetReadiness().GetScopes() {
			if s.GetScope() == events && s.GetRequests() == want && len(got.GetReadiness().GetMissing()) == 0 {
				return nil
			}
		}
		return fmt.Errorf("got %v, want %d requests for EVENTS", got, want)
	})
}

// wantBlocked checks that the gate refuses a call because of the requests with one token.
func (w *world) wantBlocked(request *countersignv1.SetEnforcementRequest, tokenID string) {
	w.t.Helper()
	_, err := w.management.SetEnforcement(w.admin, request)
	if status.Code(err) != codes.FailedPrecondition || apierr.ReasonOf(err) != "NOT_READY" {
		w.t.Fatalf("got %v, want NOT_READY", err)
	}
	var report *countersignv1.Readiness
	for _, detail := range status.Convert(err).Details() {
		if r, ok := detail.(*countersignv1.Readiness); ok {
			report = r
		}
	}
	want := fmt.Sprintf("(%s) was used %d times for EVENTS, which it is not granted", tokenID, fromEach*len(w.deciders))
	if len(report.GetBlockers()) != 1 || !strings.Contains(report.GetBlockers()[0], want) {
		w.t.Errorf("got the blockers %q, want one with %q", report.GetBlockers(), want)
	}
}

// timedDecision is the answer to a request without a token, and the times between which it was decided.
type timedDecision struct {
	began, ended time.Time
	answer       *countersignv1.AuthorizeResponse
}

// decideUntilAfter asks all validators from before the end of a trial until after it, with and without the
// app's token. A decision that began before the end and ended after it proves nothing. Each validator must
// make others on both sides of the end.
func (w *world) decideUntilAfter(end time.Time, secret string) {
	w.t.Helper()
	var asking sync.WaitGroup
	all := make([][]timedDecision, len(w.deciders))
	var wrong atomic.Uint64 // decisions about the app's token
	for i, decider := range w.deciders {
		asking.Go(func() {
			ask := func(token string) (d timedDecision, err error) {
				d.began = time.Now()
				d.answer, err = decider.Authorize(w.t.Context(), &countersignv1.AuthorizeRequest{
					AppId: tried, Scope: events, Token: token,
				})
				d.ended = time.Now()
				return d, err
			}
			for after := 0; after < decisionsAfter; {
				d, err := ask("")
				if err != nil {
					w.t.Errorf("validator %d: %v", i+1, err)
					return
				}
				all[i] = append(all[i], d)
				if !d.began.Before(end) {
					after++
				}
				if valid, err := ask(secret); err != nil || valid.answer.GetDecision() != allow {
					wrong.Add(1)
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
	asking.Wait()
	if n := wrong.Load(); n > 0 {
		w.t.Errorf("%d requests with the app's token were not accepted", n)
	}
	for i, decisions := range all {
		rejects := func(d timedDecision) bool {
			return d.answer.GetDecision() == deny && d.answer.GetEnforced() &&
				d.answer.GetReason() == countersignv1.Reason_REASON_TOKEN_MISSING
		}
		accepts := func(d timedDecision) bool { return d.answer.GetDecision() == allow && !d.answer.GetEnforced() }
		for _, d := range decisions {
			switch {
			case d.ended.Before(end) && !rejects(d):
				w.t.Errorf("validator %d: %v before the end of the trial: %v", i+1, end.Sub(d.ended), d.answer)
			case !d.began.Before(end) && !accepts(d):
				w.t.Errorf("validator %d: %v after the end of the trial: %v", i+1, d.began.Sub(end), d.answer)
			}
		}
		if !slices.ContainsFunc(decisions, func(d timedDecision) bool { return d.ended.Before(end) }) ||
			!slices.ContainsFunc(decisions, func(d timedDecision) bool { return !d.began.Before(end) }) {
			w.t.Errorf("validator %d: none of %d decisions is before the end of the trial, or none after it", i+1, len(decisions))
		}
	}
}
