package fleet_test

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/deploy/redisacl"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	pb "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/test/cluster"
	validator "github.com/countersign/countersign/services/validator/server"
)

// firstDecisions asks a validator until it has decided 20 times. Each decision must find the token revoked.
// At the first decision the validator must have a verified floor.
func (w *world) firstDecisions(p *cluster.Process, app, secret string) {
	w.t.Helper()
	began := time.Now()
	for decided := range 20 {
		check.Eventually(w.t, "a decision", func() error {
			answer, err := w.ask(p.Address, app, secret)
			if err == nil && answer.GetReason() != pb.Reason_REASON_TOKEN_REVOKED {
				w.t.Fatalf("%v after the start: got %v, want the token revoked, and not the old copy", time.Since(began), answer)
			}
			return err
		})
		if got := metric(w.t, p.HTTPAddress, "countersign_floor_unverified"); decided == 0 && got != "0" {
			w.t.Errorf("at the first decision: got floor_unverified %s, want 0", got)
		}
	}
}

// awaitMetric waits until holds returns true for a metric of a process.
func awaitMetric(t *testing.T, p *cluster.Process, name string, holds func(value int) bool) {
	t.Helper()
	check.Eventually(t, name, func() error {
		got := metric(t, p.HTTPAddress, name)
		if value, err := strconv.Atoi(got); err != nil || !holds(value) {
			return fmt.Errorf("it is %s", got)
		}
		return nil
	})
}

func is(want int) func(int) bool { return func(value int) bool { return value == want } }

// TestB08_OldCopyIsNotBelievedByAFreshAuthority: the store is replaced by an old copy while the authority and
// one validator restart. Another validator has applied the revocation that the copy lacks. The restarted
// validator decides nothing until the other one has reported. In one case the other validator has the
// revocation only from a hint.
func TestB08_OldCopyIsNotBelievedByAFreshAuthority(t *testing.T) {
	const polls, orphans, connected = "countersign_polls_total", "countersign_orphaned_changes", "countersign_report_connected"
	for name, confirmed := range map[string]bool{"confirmed": true, "known from a hint alone": false} {
		t.Run(name, func(t *testing.T) {
			w := start(t, cluster.Options{Validators: 1})
			proxy := redistest.NewProxy(t, w.Authority)
			knows := w.StartValidator(t, func(c *validator.Config) { c.Fleet = w.Fleet("knows", proxy.Address()) })
			awaitMetric(t, knows, connected, is(1))
			client := w.redis()
			// A change that was applied as a hint shows that the subscriptions work.
			w.ValidatorProcesses = append(w.ValidatorProcesses, knows)
			for _, p := range w.ValidatorProcesses {
				check.Eventually(t, "a hint", func() error {
					w.change(0, "other", wait)
					if got := metric(t, p.HTTPAddress, `countersign_hints_total{outcome="applied"}`); got == "0" {
						return errors.New("none was applied")
					}
					return nil
				})
			}

			if !confirmed {
				w.validatorsMay(client, "resetkeys") // validators cannot read the store, but hints arrive
			}
			old, secret := w.oldCopy(client, "app")
			if confirmed {
				before := 0
				awaitMetric(t, knows, polls, func(value int) bool { before = value; return true })
				awaitMetric(t, knows, polls, func(value int) bool { return value >= before+2 }) // a whole poll has run
			}
			w.ValidatorProcesses[0].Stop()
			proxy.Refuse()
			w.AuthorityProcesses[0].Stop()
			putBack(t, client, old)
			if !confirmed {
				w.validatorsMay(client, cluster.ValidatorAccount)
				awaitMetric(t, knows, orphans, is(1))
			}

			began := time.Now()
			w.StartAuthority(t, w.Authority)
			fresh := w.StartValidator(t, func(c *validator.Config) { c.Fleet = w.Fleet("validator-1", w.Authority) })
			awaitMetric(t, fresh, connected, is(1))
			for asked := 0; asked < 100 && time.Since(began) < 2*time.Second; asked++ { // well within the other's lease of 10 s
				if answer, err := w.ask(fresh.Address, "app", secret); err == nil {
					t.Fatalf("a decision before the other validator has reported: got %v, want an error", answer)
				}
			}
			proxy.Restore()
			w.firstDecisions(fresh, "app", secret)
		})
	}
}

// validatorsMay changes the rules of the validators' Redis account. Existing subscriptions stay.
func (w *world) validatorsMay(client *redisfeed.Client, rules string) {
	w.t.Helper()
	command := []any{"ACL", "SETUSER", redisacl.Validator}
	for rule := range strings.FieldsSeq(rules) {
		command = append(command, rule)
	}
	if err := client.Do(w.t.Context(), command...).Err(); err != nil {
		w.t.Fatal(err)
	}
}

// TestFloorIsAwaitedBeyondTheUsualTime: a member does not return after the authority's restart, so the floor
// waits for its lease. A fresh validator also waits that long, although it gives up sooner on an authority
// that it cannot reach.
func TestFloorIsAwaitedBeyondTheUsualTime(t *testing.T) {
	t.Parallel()
	w := start(t, cluster.Options{})
	lost := w.play(0, w.FleetKey.Reveal())
	if _, err := lost.send(lost.hello); err != nil {
		t.Fatal(err)
	}
	lost.close()
	made := w.change(0, "app", time.Millisecond)
	if _, err := w.authorities[0].RevokeToken(w.admin(), &pb.RevokeTokenRequest{
		AppId:   "app",
		TokenId: made.GetToken().GetTokenId(),
	}); err != nil {
		t.Fatal(err)
	}
	w.AuthorityProcesses[0].Stop()
	w.StartAuthority(t, w.Authority)
	w.firstDecisions(w.StartValidator(t, func(c *validator.Config) { c.Fleet = w.Fleet("fresh", w.Authority) }), "app",
		made.GetSecret())
}
