package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	pb "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/test/cluster"
	validator "github.com/countersign/countersign/services/validator/server"
)

// wait is an upper bound for each step of these tests.
const wait = 30 * time.Second

// TestB24_ReceiptOfEveryValidator: a receipt names every validator. The validators report to two authorities,
// and each of the two makes changes.
func TestB24_ReceiptOfEveryValidator(t *testing.T) {
	w := start(t, cluster.Options{Validators: 3, Authorities: 2})
	want := map[string]pb.PropagationState{"validator-1": applied, "validator-2": applied, "validator-3": applied}
	for i := range 20 {
		made := w.change(i%2, "app", wait)
		if r := made.GetReceipt(); !r.GetComplete() || !maps.Equal(states(r), want) {
			t.Fatalf("got receipt %v, want a complete one of all validators", r)
		}
	}
	for i := range 2 {
		// An authority learns the partitions of the other one's validators one after the other.
		check.Eventually(t, "all is known of all", func() error {
			for id, v := range w.validators(i) {
				if v.GetState() != isReporting || v.GetReportAge().AsDuration() > 10*time.Second || len(v.GetCursors()) != 64 ||
					len(v.GetKeyIds()) != 1 || v.GetInstanceId() == "" {
					return fmt.Errorf("%s: %v", id, v)
				}
			}
			return nil
		})
	}
}

// TestB24_LaggardsAreNamed: one validator does not apply a change. Just before the caller's deadline the call
// returns a receipt that names this validator. The change is made nevertheless.
func TestB24_LaggardsAreNamed(t *testing.T) {
	w := start(t, cluster.Options{Validators: 1})
	r := w.play(0, w.FleetKey.Reveal())
	if _, err := r.send(r.hello); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(w.admin(), 2*time.Second)
	defer cancel()
	began := time.Now()
	made, err := w.authorities[0].CreateToken(ctx, &pb.CreateTokenRequest{
		AppId: "app", Name: "a",
		WaitForPropagation: durationpb.New(time.Minute),
	})
	if err != nil {
		t.Fatalf("the change failed after %v: %v", time.Since(began), err)
	}
	want := map[string]pb.PropagationState{"validator-1": applied, "played": pending}
	if got := made.GetReceipt(); got.GetComplete() || !maps.Equal(states(got), want) || made.GetSecret() == "" {
		t.Errorf("got %v, want a secret, and an incomplete receipt that names both validators", made)
	}
	if took := time.Since(began); took < time.Second {
		t.Errorf("the receipt took %v, want at least 1s", took)
	}
	ctx, again := context.WithTimeout(w.admin(), 2*time.Second)
	defer again()
	began = time.Now()
	got, err := w.authorities[0].WaitForPropagation(ctx,
		&pb.WaitForPropagationRequest{ConsistencyToken: made.GetConsistencyToken()})
	if took := time.Since(began); err != nil || got.GetReceipt().GetComplete() || !maps.Equal(states(got.GetReceipt()), want) ||
		took < time.Second {
		t.Errorf("got %v, %v after %v, want the same states after at least 1s", got, err, took)
	}
}

// TestB24_SilentValidators: a silent validator is LOST on both authorities until it is forgotten. A silent
// validator with a short staleness bound is FENCED.
func TestB24_SilentValidators(t *testing.T) {
	t.Parallel()
	w := start(t, cluster.Options{Validators: 1, Authorities: 2})
	for id, bound := range map[string]time.Duration{"lost": 0, "fenced": 2 * time.Second, "slow": time.Minute} {
		r := w.play(1, w.FleetKey.Reveal())
		r.hello.ValidatorId = id
		if bound > 0 {
			r.hello.FencedAfter = durationpb.New(bound)
		}
		if _, err := r.send(r.hello); err != nil {
			t.Fatal(err)
		}
		r.close()
	}
	_, err := w.authorities[0].ForgetValidator(w.admin(), &pb.ForgetValidatorRequest{ValidatorId: "lost"})
	if status.Code(err) != codes.FailedPrecondition || apierr.ReasonOf(err) != "VALIDATOR_REPORTS" {
		t.Errorf("forgetting a validator that has just reported: got %v, want VALIDATOR_REPORTS", err)
	}
	for i := range w.authorities {
		check.Eventually(t, "the end of the leases", func() error {
			all := w.validators(i)
			if all["lost"].GetState() != isLost || all["fenced"].GetState() != isFenced || all["slow"].GetState() != isLost ||
				all["validator-1"].GetState() != isReporting {
				return fmt.Errorf("authority %d: %v", i, all)
			}
			return nil
		})
	}
	want := map[string]pb.PropagationState{"validator-1": applied, "lost": lost, "fenced": fenced, "slow": lost}
	if r := w.change(0, "app", 4*time.Second).GetReceipt(); r.GetComplete() || !maps.Equal(states(r), want) {
		t.Errorf("got receipt %v, want it incomplete, with lost and slow LOST and fenced FENCED", r)
	}
	for i, id := range []string{"lost", "slow"} {
		if _, err := w.authorities[i].ForgetValidator(w.admin(), &pb.ForgetValidatorRequest{ValidatorId: id}); err != nil {
			t.Fatal(err)
		}
	}
	want = map[string]pb.PropagationState{"validator-1": applied, "fenced": fenced}
	for i := range w.authorities {
		check.Eventually(t, "forgetting everywhere", func() error {
			if len(w.validators(i)) != 2 {
				return fmt.Errorf("%v", w.validators(i))
			}
			return nil
		})
		if r := w.change(i, "app", wait).GetReceipt(); !r.GetComplete() || !maps.Equal(states(r), want) {
			t.Errorf("after forgetting: got receipt %v, want it complete, with fenced FENCED", r)
		}
	}
}

// TestB24_Restarts: a validator that shuts down leaves the fleet. A restarted validator replaces its former
// instance. A restarted authority knows every validator.
func TestB24_Restarts(t *testing.T) {
	w := start(t, cluster.Options{Validators: 2})
	both := map[string]pb.PropagationState{"validator-1": applied, "validator-2": applied}
	instance := w.validators(0)["validator-1"].GetInstanceId()
	w.ValidatorProcesses[0].Stop()
	if all := w.validators(0); len(all) != 1 {
		t.Errorf("after validator-1 was shut down: got %v, want one validator", all)
	}
	w.StartValidator(t, func(c *validator.Config) { c.Fleet = w.Fleet("validator-1", w.Authority) })
	check.Eventually(t, "a new instance", func() error {
		if v := w.validators(0)["validator-1"]; v == nil || v.GetInstanceId() == instance || len(v.GetCursors()) == 0 {
			return fmt.Errorf("%v", v)
		}
		return nil
	})
	if r := w.change(0, "app", wait).GetReceipt(); !r.GetComplete() || !maps.Equal(states(r), both) {
		t.Errorf("after the validator's restart: got receipt %v, want it complete, with both", r)
	}

	w.AuthorityProcesses[0].Stop()
	w.StartAuthority(t, w.Authority)
	var made *pb.CreateTokenResponse
	check.Eventually(t, "a change over the authority that was started again", func() (err error) {
		made, err = w.authorities[0].CreateToken(w.admin(), &pb.CreateTokenRequest{
			AppId: "app", Name: "again",
			WaitForPropagation: durationpb.New(wait),
		})
		if status.Code(err) == codes.AlreadyExists {
			t.Fatal(err)
		}
		return err
	})
	// The change may be made before the validators report again. The authority then knows the validators from
	// Redis.
	if r := made.GetReceipt(); !r.GetComplete() || !maps.Equal(states(r), both) {
		t.Errorf("after the authority's restart: got receipt %v, want it complete, with both", r)
	}
}

// TestB24_HalfOpenConnection: the network drops a validator's reports without an error. The validator notices
// that within seconds, and reports again as soon as the network works.
func TestB24_HalfOpenConnection(t *testing.T) {
	t.Parallel()
	w := start(t, cluster.Options{})
	proxy := redistest.NewProxy(t, w.Authority)
	w.StartValidator(t, func(c *validator.Config) { c.Fleet = w.Fleet("v", proxy.Address()) })
	reports := func() error {
		if v := w.validators(0)["v"]; v.GetState() != isReporting || v.GetReportAge().AsDuration() > 1500*time.Millisecond {
			return fmt.Errorf("%v", v)
		}
		return nil
	}
	check.Eventually(t, "the first report", reports)
	proxy.BlackHole()
	accepted := proxy.Accepted()
	check.Eventually(t, "another connection", func() error {
		if proxy.Accepted() == accepted {
			return errors.New("none")
		}
		return nil
	})
	if v := w.validators(0)["v"]; v.GetReportAge().AsDuration() < 2*time.Second ||
		v.GetReportAge().AsDuration() > 9*time.Second {
		t.Errorf("the validator gave up the connection %v after the last report", v.GetReportAge().AsDuration())
	}
	proxy.Restore()
	check.Eventually(t, "the next report", reports)
	if r := w.change(0, "app", wait).GetReceipt(); !r.GetComplete() {
		t.Errorf("after the connection works again: got receipt %v, want it complete", r)
	}
}

// copyOf returns a DUMP of every key of a Redis.
func copyOf(t *testing.T, client *redisfeed.Client) map[string]string {
	t.Helper()
	keys, err := client.Keys(t.Context(), "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, key := range keys {
		if all[key], err = client.Dump(t.Context(), key).Result(); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// putBack replaces the whole content of a Redis by a copy, in one step.
func putBack(t *testing.T, client *redisfeed.Client, all map[string]string) {
	t.Helper()
	pipe := client.TxPipeline()
	pipe.FlushAll(t.Context())
	for key, dump := range all {
		pipe.Restore(t.Context(), key, 0, dump)
	}
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// oldCopy creates a token, copies the store, and revokes the token. It returns the copy from before the
// revocation, and the secret.
func (w *world) oldCopy(client *redisfeed.Client, app string) (all map[string]string, secret string) {
	w.t.Helper()
	patience := wait
	if len(w.Validators) == 0 {
		patience = time.Millisecond
	}
	made := w.change(0, app, patience)
	all = copyOf(w.t, client)
	last := len(w.authorities) - 1
	revoked, err := w.authorities[last].RevokeToken(w.admin(), &pb.RevokeTokenRequest{
		AppId: app, TokenId: made.GetToken().GetTokenId(), WaitForPropagation: durationpb.New(patience),
	})
	if err != nil || revoked.GetReceipt().GetComplete() != (len(w.Validators) > 0) {
		w.t.Fatalf("revocation: got %v, %v, want a complete receipt if the cluster has validators", revoked, err)
	}
	return all, made.GetSecret()
}

func (w *world) ask(address, app, secret string) (*pb.AuthorizeResponse, error) {
	w.t.Helper()
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		w.t.Fatal(err)
	}
	defer connection.Close() // callers repeat the call for seconds
	return pb.NewValidatorServiceClient(connection).Authorize(w.t.Context(), &pb.AuthorizeRequest{
		AppId: app, Token: secret, Scope: pb.Scope_SCOPE_EVENTS,
	})
}

// TestB20_OldCopyIsNotBelieved: the store is replaced by an old copy while an authority runs. A new validator
// decides nothing from the copy, and the authority heals the store.
func TestB20_OldCopyIsNotBelieved(t *testing.T) {
	w := start(t, cluster.Options{Validators: 1})
	client := w.redis()
	old, secret := w.oldCopy(client, "app")
	putBack(t, client, old)
	began := time.Now()
	fresh := w.StartValidator(t, func(c *validator.Config) { c.Fleet = w.Fleet("fresh", w.Authority) })
	for decided := 0; decided < 20; {
		answer, err := w.ask(fresh.Address, "app", secret)
		switch {
		case err == nil && answer.GetReason() == pb.Reason_REASON_TOKEN_REVOKED:
			decided++
		case err == nil:
			t.Fatalf("got %v, want the token revoked, and not the old copy", answer)
		case time.Since(began) > wait:
			t.Fatalf("the validator does not decide: %v", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Logf("the fresh validator decides %v after the old copy was put back", time.Since(began))
	check.Eventually(t, "a change after the healing", func() error {
		r, err := w.authorities[0].CreateToken(w.admin(), &pb.CreateTokenRequest{
			AppId: "app", Name: "after",
			WaitForPropagation: durationpb.New(wait),
		})
		if err == nil && !r.GetReceipt().GetComplete() {
			t.Errorf("got receipt %v, want it complete", r.GetReceipt())
		}
		return err
	})
	t.Logf("changes are made %v after it", time.Since(began))
}

// TestB20_OldCopyIsBelievedWithoutAuthority: the store is an old copy, and no authority runs. A new validator
// then decides from the copy, and its metrics show that its floor is not verified.
func TestB20_OldCopyIsBelievedWithoutAuthority(t *testing.T) {
	t.Parallel()
	w := start(t, cluster.Options{})
	client := w.redis()
	old, secret := w.oldCopy(client, "app")
	w.AuthorityProcesses[0].Stop()
	putBack(t, client, old)
	began := time.Now()
	fresh := w.StartValidator(t, func(c *validator.Config) { c.Fleet = w.Fleet("fresh", w.Authority) })
	check.Eventually(t, "a decision", func() error {
		answer, err := w.ask(fresh.Address, "app", secret)
		if err == nil && answer.GetReason() != pb.Reason_REASON_TOKEN_VALID_UNSCOPED {
			t.Errorf("got %v, want the token valid as in the copy", answer)
		}
		return err
	})
	if took := time.Since(began); took < 4*time.Second {
		t.Errorf("the validator waited %v for an authority, want at least 4s", took)
	}
	if got := metric(t, fresh.HTTPAddress, "countersign_floor_unverified"); got != "1" {
		t.Errorf("got floor_unverified %s, want 1", got)
	}
	w.StartAuthority(t, w.Authority)
	check.Eventually(t, "the floor", func() error {
		if got := metric(t, fresh.HTTPAddress, "countersign_floor_unverified"); got != "0" {
			return fmt.Errorf("floor_unverified is %s", got)
		}
		return nil
	})
	if got := metric(t, fresh.HTTPAddress, "countersign_report_connected"); got != "1" {
		t.Errorf("got report_connected %s, want 1", got)
	}
}

// TestHealed: either authority brings back the changes that a failover loses, within seconds. A revoked
// secret never works meanwhile.
func TestHealed(t *testing.T) {
	w := start(t, cluster.Options{Validators: 2, Authorities: 2})
	client := w.redis()
	for round := range 3 {
		app := fmt.Sprintf("app%d", round)
		old, secret := w.oldCopy(client, app)
		putBack(t, client, old)
		began := time.Now()
		healed := false
		for !healed {
			for _, address := range w.Validators {
				answer, err := w.ask(address, app, secret)
				if err != nil || answer.GetReason() != pb.Reason_REASON_TOKEN_REVOKED {
					t.Fatalf("got %v, %v, want the token revoked", answer, err)
				}
			}
			made, err := w.authorities[round%2].CreateToken(w.admin(), &pb.CreateTokenRequest{
				AppId: app, Name: "after", WaitForPropagation: durationpb.New(wait),
			})
			switch {
			case err == nil:
				healed = true
				if !made.GetReceipt().GetComplete() {
					t.Errorf("got receipt %v, want it complete", made.GetReceipt())
				}
			case apierr.ReasonOf(err) != apierr.StoreForked && apierr.ReasonOf(err) != apierr.StoreUnavailable &&
				apierr.ReasonOf(err) != apierr.PolicyUnverified:
				t.Fatal(err)
			case time.Since(began) > wait:
				t.Fatalf("not healed: %v", err)
			}
		}
		t.Logf("healed, and a change is everywhere, after %v", time.Since(began))
	}
}

// TestHealedFromValidators: the authority restarts over a store that has lost changes, or the store is wiped
// after the restart. The authority gets the lost changes from validators.
func TestHealedFromValidators(t *testing.T) {
	for name, wiped := range map[string]bool{"an old copy": false, "wiped after the restart": true} {
		t.Run(name, func(t *testing.T) {
			w := start(t, cluster.Options{Validators: 2})
			client := w.redis()
			old, secret := w.oldCopy(client, "app")
			w.AuthorityProcesses[0].Stop()
			if wiped {
				w.AuthorityProcesses[0] = w.StartAuthority(t, w.Authority)
				check.Eventually(t, "a loaded authority", func() error { _, err := w.create("warm"); return err })
				if err := client.FlushAll(t.Context()).Err(); err != nil {
					t.Fatal(err)
				}
			} else {
				putBack(t, client, old)
				w.AuthorityProcesses[0] = w.StartAuthority(t, w.Authority)
			}
			began := time.Now()
			check.Eventually(t, name, func() error {
				for _, address := range w.Validators {
					if answer, err := w.ask(address, "app", secret); err != nil || answer.GetReason() != pb.Reason_REASON_TOKEN_REVOKED {
						t.Fatalf("got %v, %v, want the token revoked", answer, err)
					}
				}
				made, err := w.create("app")
				if err == nil && !made.GetReceipt().GetComplete() {
					t.Errorf("got receipt %v, want it complete", made.GetReceipt())
				}
				return err
			})
			t.Logf("a change is everywhere after %v", time.Since(began))
			// A validator that has the revocation only from a hint follows the copy, and keeps the token
			// revoked. It may apply the new change before the authority knows of the lost one.
			check.Eventually(t, "the revocation is in the store", func() error {
				listed, err := w.authorities[0].ListTokens(w.admin(), &pb.ListTokensRequest{AppId: "app", ShowRevoked: true})
				if err != nil || len(listed.GetTokens()) < 2 || listed.GetTokens()[0].GetState() != pb.TokenState_TOKEN_STATE_REVOKED {
					return fmt.Errorf("%v, %w", listed, err)
				}
				return nil
			})
			for _, address := range w.Validators {
				if answer, err := w.ask(address, "app", secret); err != nil || answer.GetReason() != pb.Reason_REASON_TOKEN_REVOKED {
					t.Errorf("got %v, %v, want the token revoked", answer, err)
				}
			}
		})
	}
}

func (w *world) create(app string) (*pb.CreateTokenResponse, error) {
	return w.authorities[0].CreateToken(w.admin(), &pb.CreateTokenRequest{
		AppId: app, Name: time.Now().String(), WaitForPropagation: durationpb.New(wait),
	})
}
