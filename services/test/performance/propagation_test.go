package performance

import (
	"context"
	"encoding/hex"
	"flag"
	"fmt"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/validator"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/test/cluster"
)

var (
	spreadValidators = flag.Int("propagation.validators", 10, "how many validators there are")
	spreadRevokes    = flag.Int("propagation.revokes", 60, "how many tokens are revoked")
	spreadRate       = flag.Float64("propagation.rate", 20, "how many of them a second")
)

const (
	// observerPause is the pause of the observer between two rounds. It bounds the error of the measurement.
	observerPause = 500 * time.Microsecond
	// revokedPerApp is the number of tokens of each app.
	revokedPerApp = 10
)

// TestB24_Propagation revokes tokens at a steady rate, whether or not earlier revocations have arrived. It
// waits for the receipt of each, and an observer sees when the last validator denies the token. A receipt
// must name all validators, and must be true when it arrives.
func TestB24_Propagation(t *testing.T) {
	w := start(t, cluster.Options{RedisArgs: durable})
	o := &observer{validators: w.embed(*spreadValidators, func(i int, c *validator.Config) {
		c.Fleet = w.Fleet(fmt.Sprintf("validator-%d", i+1), w.Authority)
	}, w.account("validator", cluster.ValidatorAccount, w.Redis.Address()))}
	client := w.redis(t)
	awaitReady(t, o.validators)
	targets := w.importTokens(*spreadRevokes)
	o.awaitValid(t, targets)
	w.awaitReporting(*spreadValidators)

	ctx, stop := context.WithCancel(t.Context())
	var observing sync.WaitGroup
	observing.Go(func() { o.observe(ctx) })
	s, began := spread{own: ownCPU(t), redis: redisCPU(t, client)}, time.Now()
	openLoop(t.Context(), *spreadRate, len(targets), func(i int, due time.Time) {
		watched := o.watch(targets[i])
		answer, err := w.management.RevokeToken(w.admin, &countersignv1.RevokeTokenRequest{
			AppId: targets[i].app, TokenId: targets[i].id, WaitForPropagation: durationpb.New(receiptPatience),
		})
		returned := time.Now()
		if err != nil {
			t.Errorf("revocation %d: %v", i, err)
			return
		}
		if left := o.accepting(t.Context(), targets[i], o.denying(watched)); left > 0 {
			t.Errorf("revocation %d: %d validators accept the token after a receipt: %v", i, left, answer.GetReceipt())
		}
		checkReceipt(t, answer)
		select {
		case last := <-watched.seen:
			s.add(due, last, returned, answer.GetReceipt())
		case <-time.After(patience):
			t.Errorf("revocation %d: not seen", i)
		}
	})
	s.own, s.redis, s.took = ownCPU(t)-s.own, redisCPU(t, client)-s.redis, time.Since(began)
	stop()
	observing.Wait()
	for _, of := range targets {
		if left := o.accepting(t.Context(), of, 0); left > 0 {
			t.Errorf("%d validators accept a revoked token in the end", left)
		}
	}
	s.print(t)
}

// receiptPatience is how long a call waits for its receipt: the longest wait that is allowed (B24).
const receiptPatience = time.Minute

// checkReceipt checks that a receipt says APPLIED of every validator.
func checkReceipt(t *testing.T, answer *countersignv1.RevokeTokenResponse) {
	t.Helper()
	receipt, at := answer.GetReceipt(), check.Must(record.DecodePosition(answer.GetConsistencyToken()))(t)
	if !receipt.GetComplete() || len(receipt.GetValidators()) != *spreadValidators {
		t.Errorf("a receipt of %d validators, complete %t; want all %d", len(receipt.GetValidators()), receipt.GetComplete(),
			*spreadValidators)
	}
	for _, v := range receipt.GetValidators() {
		if v.GetState() != countersignv1.PropagationState_PROPAGATION_STATE_APPLIED || v.GetRevision() < at.Revision {
			t.Errorf("the receipt of revision %d says: %v", at.Revision, v)
		}
	}
}

// spread is how long revocations took.
type spread struct {
	// sinceCommit and sinceDue end when the last validator denies the token. They begin at the commit, by the
	// authority's clock, and when the call was due. called ends when the call returns with its receipt.
	sinceCommit, sinceDue, called times
	// reported is the time from that denial to the last report in the receipt, received the time to the
	// receipt.
	reported, received times
	// own and redis are the CPU time of this process and of Redis, took is the length of the measurement.
	own, redis, took time.Duration
}

func (s *spread) add(due, seen, returned time.Time, receipt *countersignv1.Receipt) {
	var last time.Time
	for _, v := range receipt.GetValidators() {
		if at := v.GetReportTime().AsTime(); at.After(last) {
			last = at
		}
	}
	// Both times are wall clock, like the authority's.
	s.sinceCommit.add(seen.Round(0).Sub(receipt.GetCommitTime().AsTime()))
	s.sinceDue.add(seen.Sub(due))
	s.called.add(returned.Sub(due))
	s.reported.add(last.Sub(seen.Round(0)))
	s.received.add(returned.Sub(seen))
}

func (s *spread) print(t *testing.T) {
	t.Helper()
	figures := newTable("from", "to", "least", "p50", "p99", "p99.9", "max")
	for _, row := range []struct {
		from, to string
		*times
	}{
		{"the commit", "the last validator is seen to deny", &s.sinceCommit},
		{"when the call was due", "the last validator is seen to deny", &s.sinceDue},
		{"when the call was due", "its return with the receipt", &s.called},
		{"the last validator is seen to deny", "the last report in the receipt", &s.reported},
		{"the last validator is seen to deny", "the call's return", &s.received},
	} {
		figures.row(append([]string{row.from, row.to, ms(row.at(0))}, row.quantiles()...)...)
	}
	share := func(of time.Duration) float64 { return 100 * float64(of) / float64(s.took) }
	figures.print(t,
		fmt.Sprintf("%d validators, %d revocations, %.0f a second; CPU of this process %.0f %%, of Redis %.0f %% of a core",
			*spreadValidators, *spreadRevokes, *spreadRate, share(s.own), share(s.redis)))
}

// awaitReporting returns when the authority knows a number of validators that have all changes.
func (w *world) awaitReporting(n int) {
	w.t.Helper()
	check.Eventually(w.t, "all validators report", func() error {
		answer, err := w.management.ListValidators(w.admin, &countersignv1.ListValidatorsRequest{})
		if err != nil {
			return err
		}
		if len(answer.GetValidators()) != n {
			return fmt.Errorf("%d of %d report", len(answer.GetValidators()), n)
		}
		for _, v := range answer.GetValidators() {
			if v.GetBehind() > 0 {
				return fmt.Errorf("behind: %v", v)
			}
		}
		return nil
	})
}

// target is a token to revoke.
type target struct {
	app, id string
	request validator.Request
}

// importTokens makes tokens, in as many apps as needed.
func (w *world) importTokens(n int) (targets []target) {
	w.t.Helper()
	for app := 0; len(targets) < n; app++ {
		request := &countersignv1.ImportTokensRequest{AppId: fmt.Sprintf("app%d", app)}
		var secrets []string
		for i := range revokedPerApp {
			tag := record.NewTag()
			secrets = append(secrets, hex.EncodeToString(tag[:]))
			request.Imports = append(request.Imports, &countersignv1.TokenImport{
				Name: fmt.Sprintf("token %d", i), Scopes: []countersignv1.Scope{events},
				Credential: &countersignv1.TokenImport_Secret{Secret: secrets[i]},
			})
		}
		for i, token := range check.Must(w.management.ImportTokens(w.admin, request))(w.t).GetTokens() {
			targets = append(targets, target{request.AppId, token.GetTokenId(), validator.Request{
				AppID: request.AppId, Token: secret.New(secrets[i]), Scope: policy.Scope(events),
			}})
		}
	}
	return targets[:n]
}

// observer asks validators from outside. It knows nothing about hints, reports or receipts.
type observer struct {
	validators []*validator.Validator

	mu      sync.Mutex
	watched []*watched
}

// watched is a token that will be revoked.
type watched struct {
	target
	denied int // number of validators, from the first, that deny it; a denial is final (B08)
	// seen gets the time at which the last validator was seen to deny it.
	seen chan time.Time
}

// watch begins to watch a token.
func (o *observer) watch(of target) *watched {
	w := &watched{target: of, seen: make(chan time.Time, 1)}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.watched = append(o.watched, w)
	return w
}

// denying returns how many validators, counted from the first, are known to deny a watched token.
func (o *observer) denying(w *watched) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return w.denied
}

// observe asks the validators until ctx ends.
func (o *observer) observe(ctx context.Context) {
	tick := time.NewTicker(observerPause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			o.look(ctx)
		}
	}
}

// look asks, for each token, the first validator that has not denied it yet, and continues with the next
// ones.
func (o *observer) look(ctx context.Context) {
	o.mu.Lock()
	defer o.mu.Unlock()
	left := o.watched[:0]
	for _, w := range o.watched {
		for w.denied < len(o.validators) && reasonOf(ctx, o.validators[w.denied], w.target) == policy.TokenRevoked {
			w.denied++
		}
		if w.denied == len(o.validators) {
			w.seen <- time.Now()
			continue
		}
		left = append(left, w)
	}
	clear(o.watched[len(left):])
	o.watched = left
}

// reasonOf returns a validator's verdict; 0 without a verdict.
func reasonOf(ctx context.Context, v *validator.Validator, of target) policy.Reason {
	answer, err := v.Authorize(ctx, of.request)
	if err != nil {
		return 0
	}
	return answer.Reason
}

// awaitValid returns when all validators accept all tokens.
func (o *observer) awaitValid(t *testing.T, targets []target) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for _, of := range targets {
		for _, v := range o.validators {
			for reasonOf(t.Context(), v, of) != policy.TokenValid {
				if time.Now().After(deadline) {
					t.Fatal("a validator does not know of a token")
				}
				time.Sleep(time.Millisecond)
			}
		}
	}
}

// accepting returns how many validators, from a number on, do not deny a token as revoked.
func (o *observer) accepting(ctx context.Context, of target, from int) (left int) {
	for _, v := range o.validators[from:] {
		if reasonOf(ctx, v, of) != policy.TokenRevoked {
			left++
		}
	}
	return left
}
