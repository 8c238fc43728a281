package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/countersign/countersign/deploy/redisacl"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/internal/adminkeys"
)

// TestB21_KilledValidatorIsNamed: a validator is killed (SIGKILL) while the counts' Redis fails over, once as
// planned and once because its master ends. The other validator's counts are exact. Of the killed one, every
// decision is counted that was made before the time from which on the report says that some are missing, and
// that time is at most 15 s before its end on a machine that is not busy.
func TestB21_KilledValidatorIsNamed(t *testing.T) {
	counts := redistest.Options{Accounts: true}.StartReplicated(t, 2)
	p := &processes{redis: redistest.StartWithAccounts(t), keys: map[string]string{}}
	folder, common := p.prepare(t)
	keys := filepath.Join(folder, keysFile)
	fleetKey := filepath.Join(folder, "fleet.key")
	check.NoError(t, os.WriteFile(fleetKey, []byte(check.Must(adminkeys.Add(keys, "fleet", adminkeys.Validator))(t).Reveal()),
		0o600))
	scopes := []countersignv1.Scope{events, sessions}
	for i := range scopes {
		p.authorities = append(p.authorities, startProcess(t, folder, "authority", append(slices.Clip(common),
			"--admin-keys-file="+keys, "--redis-url="+p.redis.URLFor(redisacl.Authority),
			"--usage-redis-url="+counts.URLFor(redisacl.Authority, redisacl.Authority))...))
		p.validators = append(p.validators, startProcess(t, folder, "validator", append(slices.Clip(common),
			"--redis-url="+p.redis.URLFor(redisacl.Validator), "--authority="+p.authorities[i].grpc,
			"--fleet-key-file="+fleetKey, fmt.Sprint("--validator-id=counted-", i))...))
	}
	for _, process := range slices.Concat(p.authorities, p.validators) {
		process.awaitServing(t)
	}
	admin := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+p.keys["ada"])
	management := countersignv1.NewAuthorityServiceClient(p.authorities[0].dial(t))
	made := check.Must(management.CreateToken(admin, &countersignv1.CreateTokenRequest{
		AppId: "counted", Name: "valid", Scopes: scopes,
	}))(t)

	// Each validator gets the requests of one scope, so that its counts are known apart.
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var running sync.WaitGroup
	decided := make([][]time.Time, len(scopes))
	for i, v := range p.validators {
		client := countersignv1.NewValidatorServiceClient(v.dial(t))
		request := &countersignv1.AuthorizeRequest{
			AppId: "counted", Scope: scopes[i], Token: made.GetSecret(), MinRevision: made.GetConsistencyToken(),
		}
		running.Go(func() {
			for ctx.Err() == nil {
				answer, err := client.Authorize(context.WithoutCancel(ctx), request)
				if err != nil && i == 1 {
					return // it was killed
				}
				if err != nil || answer.GetReason() != countersignv1.Reason_REASON_TOKEN_VALID {
					t.Errorf("got %v, %v", answer, err)
					return
				}
				decided[i] = append(decided[i], time.Now())
				pauseFor(ctx, 5*time.Millisecond)
			}
		})
	}
	report := func() (*countersignv1.Readiness, map[countersignv1.Scope]uint64, error) {
		got, err := management.GetReadiness(admin, &countersignv1.GetReadinessRequest{AppId: "counted"})
		n := map[countersignv1.Scope]uint64{}
		for _, s := range got.GetReadiness().GetScopes() {
			n[s.GetScope()] = s.GetRequests()
		}
		return got.GetReadiness(), n, err
	}
	check.Eventually(t, "counts of both validators", func() error {
		if _, n, err := report(); err != nil || len(n) != 2 {
			return fmt.Errorf("%v, %w", n, err)
		}
		return nil
	})
	counts.Failover()
	counts.AwaitStable()
	master := counts.Master()
	master.Stop()
	p.validators[1].kill(t)
	killed := time.Now()
	counts.AwaitOther(master)
	check.Eventually(t, "the report names the killed validator", func() error {
		r, _, err := report()
		const silent = "validator counted-1 has not reported"
		if err != nil || len(r.GetMissing()) != 1 || !strings.HasPrefix(r.GetMissing()[0], silent) {
			return fmt.Errorf("%q, %w", r.GetMissing(), err)
		}
		return nil
	})
	stop()
	running.Wait()
	check.Eventually(t, "every decision of the other validator is counted", func() error {
		if _, n, err := report(); err != nil || n[events] != uint64(len(decided[0])) {
			return fmt.Errorf("%d of %d, %w", n[events], len(decided[0]), err)
		}
		return nil
	})
	r, n, err := report()
	check.NoError(t, err)
	if r.GetVerdict() != countersignv1.ReadinessVerdict_READINESS_VERDICT_INCOMPLETE || len(r.GetMissing()) != 1 {
		t.Fatalf("the report is %v, missing %q", r.GetVerdict(), r.GetMissing())
	}
	told := regexp.MustCompile(`^validator counted-1 .* its requests since (.*) are missing`)
	found := told.FindStringSubmatch(r.GetMissing()[0])
	if found == nil {
		t.Fatalf("missing: %q", r.GetMissing())
	}
	since := check.Must(time.Parse("2006-01-02 15:04:05 MST", found[1]))(t)
	least := uint64(0)
	for _, at := range decided[1] {
		if at.Before(since) {
			least++
		}
	}
	if got := n[sessions]; got < least || got > uint64(len(decided[1]))+1 { // one answer may be lost
		t.Errorf("%d decisions of the killed validator are counted, want %d to %d", got, least, len(decided[1]))
	}
	check.Within(t, "the last counts of the killed validator", killed.Sub(since), 16*time.Second, 2*time.Minute)
	t.Logf("%d of %d decisions of the killed validator are counted, complete until %v before its end", n[sessions],
		len(decided[1]), killed.Sub(since))
}
