package fleet_test

import (
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	pb "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/test/cluster"
	validator "github.com/countersign/countersign/services/validator/server"
)

// TestB30_LinksOfTwoAuthoritiesHealAWipe: the store is wiped. One validator holds the first changes of a
// partition and reports to one authority. Another holds the last ones and reports to the other authority.
// Neither authority can ask both validators, and together they bring everything back.
func TestB30_LinksOfTwoAuthoritiesHealAWipe(t *testing.T) {
	w := start(t, cluster.Options{Authorities: 2})
	client := w.redis()
	log := record.KeysOf(record.NewCodec(w.Ring, w.meta()).PartitionOf("app")).Log
	trim := func() { check.Must(client.XTrimMaxLen(t.Context(), log, 1).Result())(t) }
	at, err := url.Parse(w.RedisURL)
	check.NoError(t, err)
	proxy := redistest.NewProxy(t, at.Host)

	early := w.StartValidator(t, func(c *validator.Config) {
		through := check.Must(url.Parse(c.RedisURL))(t)
		through.Host = proxy.Address()
		c.RedisURL, c.Fleet = through.String(), w.Fleet("early", w.Authorities[0])
	})
	awaitMetric(t, early, "countersign_report_connected", is(1))
	for range 3 {
		if made := w.change(0, "app", wait); !made.GetReceipt().GetComplete() {
			t.Fatalf("got the receipt %v, want it complete", made.GetReceipt())
		}
	}
	proxy.Refuse() // the validator reports, and reads nothing more
	trim()
	late := w.StartValidator(t, func(c *validator.Config) { c.Fleet = w.Fleet("late", w.Authorities[1]) })
	awaitMetric(t, late, "countersign_ready", is(1))
	for range 2 {
		if got := states(w.change(1, "app", 2*time.Second).GetReceipt())["late"]; got != applied {
			t.Fatalf("got the state %s of the late validator, want APPLIED", got)
		}
	}
	trim()
	for i, p := range w.AuthorityProcesses {
		p.Stop()
		w.StartAuthority(t, w.Authorities[i])
	}
	for _, p := range []*cluster.Process{early, late} {
		awaitMetric(t, p, "countersign_report_connected", is(1))
	}
	check.Eventually(t, "both authorities serve", func() error {
		for _, a := range w.authorities {
			if _, err := a.GetApp(w.admin(), &pb.GetAppRequest{AppId: "app"}); err != nil {
				return err
			}
		}
		return nil
	})
	check.NoError(t, client.FlushAll(t.Context()).Err())
	check.Eventually(t, "everything is brought back", func() error {
		for _, a := range w.authorities {
			tokens, err := a.ListTokens(w.admin(), &pb.ListTokensRequest{AppId: "app"})
			if err != nil || len(tokens.GetTokens()) != 5 {
				return fmt.Errorf("got %d tokens, %w", len(tokens.GetTokens()), err)
			}
		}
		if n := client.XLen(t.Context(), log).Val(); n == 0 {
			return fmt.Errorf("the log is empty")
		}
		return nil
	})
}
