package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/storetest"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/test/cluster"
	validator "github.com/countersign/countersign/services/validator/server"
)

// restart restarts a validator with the current key ring.
func (w *world) restart(i int) {
	w.t.Helper()
	w.ValidatorProcesses[i].Stop()
	p := w.StartValidator(w.t, func(c *validator.Config) { c.Fleet = w.Fleet(fmt.Sprintf("validator-%d", i+1), w.Authority) })
	w.ValidatorProcesses[i], w.Validators[i] = p, p.Address
	w.deciders[i] = countersignv1.NewValidatorServiceClient(check.Dial(w.t, p.Address))
}

// metrics returns the metrics page of a process.
func (w *world) metrics(p *cluster.Process) string {
	w.t.Helper()
	response := check.Must(http.Get("http://" + p.HTTPAddress + "/metrics"))(w.t)
	defer response.Body.Close()
	return string(check.Must(io.ReadAll(response.Body))(w.t))
}

// has waits until a metric appears.
func (w *world) has(p *cluster.Process, metric string) {
	w.t.Helper()
	check.Eventually(w.t, metric, func() error {
		if text := w.metrics(p); !strings.Contains(text, "\n"+metric+"\n") {
			return fmt.Errorf("the process does not say so")
		}
		return nil
	})
}

// TestB20_SecondKeyBecomesCurrent: a second key becomes current while the store is in use. Processes that
// were restarted with both keys continue to work. A validator that has only the old key answers from its last
// good data until it is restarted.
func TestB20_SecondKeyBecomesCurrent(t *testing.T) {
	w := start(t, cluster.Options{Report: true})
	const app = "pezwd5bre2xb"
	create := func(name string) *countersignv1.CreateTokenResponse {
		t.Helper()
		var created *countersignv1.CreateTokenResponse
		// An authority that has just started refuses changes until it has loaded.
		check.Eventually(t, "a token is created", func() (err error) {
			created, err = w.management.CreateToken(w.admin, &countersignv1.CreateTokenRequest{
				AppId: app, Name: name, Scopes: []countersignv1.Scope{events}, RequestId: "create-" + name,
			})
			return err
		})
		return created
	}
	ask := func(secret string) *countersignv1.AuthorizeRequest {
		return &countersignv1.AuthorizeRequest{AppId: app, Token: secret, Scope: events}
	}
	first := create("first")
	since := check.Must(w.management.SetEnforcement(w.admin, &countersignv1.SetEnforcementRequest{
		AppId: app, Scopes: []countersignv1.Scope{events}, AllowRejections: true,
	}))(t).GetConsistencyToken()
	w.expect("before", since, ask(first.GetSecret()), allow, countersignv1.Reason_REASON_TOKEN_VALID)

	w.Ring = storetest.Successor(t, w.Ring)
	w.AuthorityProcesses[0].Stop()
	w.AuthorityProcesses[0] = w.StartAuthority(t, w.Authority)
	w.restart(0)
	w.has(w.ValidatorProcesses[0], "countersign_ready 1")
	second := create("second")
	late := w.deciders[1]
	w.deciders = w.deciders[:1]
	w.expect("an old token, on the validator that has both keys", second.GetConsistencyToken(), ask(first.GetSecret()), allow,
		countersignv1.Reason_REASON_TOKEN_VALID)
	w.expect("a new token, on the validator that has both keys", second.GetConsistencyToken(), ask(second.GetSecret()), allow,
		countersignv1.Reason_REASON_TOKEN_VALID)
	again := check.Must(w.management.CreateToken(w.admin, &countersignv1.CreateTokenRequest{
		AppId: app, Name: "first", Scopes: []countersignv1.Scope{events}, RequestId: "create-first",
	}))(t)
	if again.GetToken().GetTokenId() != first.GetToken().GetTokenId() {
		t.Error("a repeated request, first made under the old key, was carried out again")
	}

	// The other validator does not know whether the new token exists.
	check.Eventually(t, "the unknown key is counted", func() error {
		for line := range strings.Lines(w.metrics(w.ValidatorProcesses[1])) {
			if strings.HasPrefix(line, `countersign_quarantined_records_total{cause="bad"}`) &&
				strings.TrimSpace(line[len(`countersign_quarantined_records_total{cause="bad"}`):]) != "0" {
				t.Fatalf("a record with a signature of the new key is reported as forged: %s", line)
			}
			if strings.HasPrefix(line, `countersign_quarantined_records_total{cause="unknown_key"}`) &&
				!strings.HasSuffix(line, " 0\n") {
				return nil
			}
		}
		return fmt.Errorf("it is not")
	})
	answer := check.Must(late.Authorize(t.Context(), ask(first.GetSecret())))(t)
	if answer.GetDecision() != allow || answer.GetReason() != countersignv1.Reason_REASON_TOKEN_VALID {
		t.Errorf("the validator without the new key: got answer %v", answer)
	}

	w.deciders = append(w.deciders, late)
	w.restart(1)
	w.has(w.ValidatorProcesses[1], "countersign_ready 1")
	w.expect("a new token, on both", second.GetConsistencyToken(), ask(second.GetSecret()), allow,
		countersignv1.Reason_REASON_TOKEN_VALID)
	revoked := check.Must(w.management.RevokeToken(w.admin, &countersignv1.RevokeTokenRequest{
		AppId: app, TokenId: first.GetToken().GetTokenId(), WaitForPropagation: durationpb.New(30 * time.Second),
	}))(t)
	if !revoked.GetReceipt().GetComplete() || len(revoked.GetReceipt().GetValidators()) != 2 {
		t.Errorf("the receipt is %v", revoked.GetReceipt())
	}
	w.expect("revoked", revoked.GetConsistencyToken(), ask(first.GetSecret()), deny, countersignv1.Reason_REASON_TOKEN_REVOKED)
	for i := range w.ValidatorProcesses {
		w.has(w.ValidatorProcesses[i], "countersign_digest_mismatches_total 0")
	}
	w.has(w.AuthorityProcesses[0], "countersign_fleet_divergences_total 0")
}
