package tools

import (
	"errors"
	"testing"

	"github.com/countersign/countersign/deploy/redisacl"
	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/redistest"
)

// TestToolsWorkOnEveryKindOfRedis: the tools use the operator's account while an authority makes changes with
// its own, on one server, a Sentinel group and a Cluster with several masters.
func TestToolsWorkOnEveryKindOfRedis(t *testing.T) {
	with := redistest.Options{Accounts: true}
	for name, start := range map[string]func(t *testing.T) (urlFor func(user, password string) string, masters int){
		"one server": func(t *testing.T) (func(string, string) string, int) {
			server := redistest.StartWithAccounts(t)
			return func(user, _ string) string { return server.URLFor(user) }, 1
		},
		"Sentinel": func(t *testing.T) (func(string, string) string, int) { return with.StartReplicated(t, 1).URLFor, 1 },
		"Cluster":  func(t *testing.T) (func(string, string) string, int) { return with.StartCluster(t, 3, 0).URLFor, 3 },
	} {
		t.Run(name, func(t *testing.T) {
			urlFor, masters := start(t)
			s := &system{t: t, ring: keyring.Generate()}
			s.fill(urlFor(redisacl.Authority, redisacl.Authority), urlFor(redisacl.Operator, redisacl.Operator))
			status := check.Must(s.tools.Status(t.Context()))(t)
			if len(status.Servers) != masters || len(status.Heads) > 0 || status.Apps != 3*partitions {
				t.Errorf("%+v", status)
			}
			s.wantClean()
			path := s.backup()
			running, _ := s.follow()
			s.revoke(s.app(1, 0), "first")
			check.Eventually(t, "following", func() error {
				if state(running, s.app(1, 0), "first") != policy.Revoked {
					return errors.New("not there yet")
				}
				return nil
			})
			check.Must(s.tools.Restore(t.Context(), path, RestoreOptions{Replace: true}))(t)
			if v := s.wantClean(); v.Totals.Apps != 3*partitions {
				t.Errorf("%+v", v)
			}
			crossed(t, running, 2)
			plan := check.Must(s.tools.PlanAdoption(t.Context(), 0))(t)
			if err := s.tools.Adopt(t.Context(), plan); err != nil {
				t.Fatal(err)
			}
			crossed(t, running, 3)
			if got := state(running, s.app(1, 0), "first"); got != policy.Revoked {
				t.Errorf("state %d", got)
			}
		})
	}
}
