package fleet_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/testkit/redistest"
	pb "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/internal/testcluster"
	validator "github.com/countersign/countersign/services/validator/server"
)

// firstDecisions asks a validator until it has decided some times, and wants the secret to be revoked each time, and the floor to
// be verified from the first decision on.
func (w *world) firstDecisions(p *testcluster.Process, app, secret string) {
	w.t.Helper()
	began := time.Now()
	for decided := 0; decided < 20; {
		answer, err := w.ask(p.Address, app, secret)
		switch {
		case err == nil && answer.GetReason() == pb.Reason_REASON_TOKEN_REVOKED:
			if decided++; decided == 1 {
				if got := metric(w.t, p.HTTPAddress, "countersign_floor_unverified"); got != "0" {
					w.t.Errorf("it decides, and floor_unverified is %s", got)
				}
			}
		case err == nil:
			w.t.Fatalf("%v after its start it believes the copy: %v", time.Since(began), answer)
		case time.Since(began) > wait:
			w.t.Fatalf("it does not decide: %v", err)
		}
	}
}

// TestB08_OldCopyIsNotBelievedByAFreshAuthority: an old copy of everything is put in place while the authority and a validator
// are started again. The other validator knows better, and is believed before the copy is.
func TestB08_OldCopyIsNotBelievedByAFreshAuthority(t *testing.T) {
	w := start(t, testcluster.Options{Validators: 1})
	proxy := redistest.NewProxy(t, w.Authority)
	knows := w.StartValidator(t, func(c *validator.Config) { c.Fleet = w.Fleet("knows", proxy.Address()) })
	reports := func(p *testcluster.Process) func() error {
		return func() error {
			if got := metric(t, p.HTTPAddress, "countersign_report_connected"); got != "1" {
				return fmt.Errorf("report_connected is %s", got)
			}
			return nil
		}
	}
	eventually(t, "the report of the one that knows", reports(knows))
	client := w.redis()
	old, secret := w.oldCopy(client, "app")
	w.ValidatorProcesses[0].Stop()
	proxy.Refuse()
	w.AuthorityProcesses[0].Stop()
	putBack(t, client, old)
	began := time.Now()
	w.StartAuthority(t, w.Authority)
	fresh := w.StartValidator(t, func(c *validator.Config) { c.Fleet = w.Fleet("validator-1", w.Authority) })
	eventually(t, "the report of the one that starts", reports(fresh))
	for asked := 0; asked < 300 && time.Since(began) < 5*time.Second; asked++ { // the lease of the one that knows is 10 s
		if answer, err := w.ask(fresh.Address, "app", secret); err == nil {
			t.Fatalf("it decides before the other one has reported: %v", answer)
		}
	}
	proxy.Restore()
	w.firstDecisions(fresh, "app", secret)
}

// TestFloorIsAwaitedBeyondTheUsualTime: a member that does not come back is waited for as long as its lease, and so is the floor,
// although a validator waits less when no authority is in reach. Nothing is decided before.
func TestFloorIsAwaitedBeyondTheUsualTime(t *testing.T) {
	t.Parallel()
	w := start(t, testcluster.Options{})
	lost := w.play(0, w.FleetKey.Reveal())
	if _, err := lost.send(lost.hello); err != nil {
		t.Fatal(err)
	}
	lost.close()
	made := w.change(0, "app", time.Millisecond)
	if _, err := w.authorities[0].RevokeToken(w.admin(), &pb.RevokeTokenRequest{AppId: "app", TokenId: made.GetToken().GetTokenId()}); err != nil {
		t.Fatal(err)
	}
	w.AuthorityProcesses[0].Stop()
	w.StartAuthority(t, w.Authority)
	w.firstDecisions(w.StartValidator(t, func(c *validator.Config) { c.Fleet = w.Fleet("fresh", w.Authority) }), "app", made.GetSecret())
}
