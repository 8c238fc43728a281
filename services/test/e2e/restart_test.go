package e2e

import (
	"fmt"
	"maps"
	"testing"

	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/testkit/check"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/store/tools"
	"github.com/countersign/countersign/services/test/cluster"
)

// TestRedisRestartUnderTheAccounts: a Redis with the accounts of deploy/redisacl has every key after a
// restart, for each kind of persistence. Everything verifies, and changes go on.
func TestRedisRestartUnderTheAccounts(t *testing.T) {
	aof := []string{"--appendonly", "yes", "--appendfsync", "always"}
	for name, args := range map[string][]string{
		"AOF with a preamble":    append(aof, "--aof-use-rdb-preamble", "yes"),
		"AOF without a preamble": append(aof[:4:4], "--aof-use-rdb-preamble", "no"),
		"RDB":                    {"--save", ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := start(t, cluster.Options{Report: true, RedisArgs: args})
			const app = "pezwd5bre2xb"
			var first *countersignv1.CreateTokenResponse
			for i := range 20 {
				created := check.Must(w.management.CreateToken(w.admin, &countersignv1.CreateTokenRequest{
					AppId: app, Name: fmt.Sprint("token ", i), Scopes: []countersignv1.Scope{events}, RequestId: fmt.Sprint("request-", i),
				}))(t)
				if i == 0 {
					first = created
				}
			}
			check.Must(w.management.SetEnforcement(w.admin, &countersignv1.SetEnforcementRequest{
				AppId: app, Scopes: []countersignv1.Scope{events}, AllowRejections: true,
			}))(t)
			before := w.lengths()
			if len(args) < 4 {
				if _, err := w.Redis.Do("SAVE"); err != nil {
					t.Fatal(err)
				}
			}
			w.Redis.Stop()
			w.Redis.Restart()
			after := w.lengths()
			delete(before, "cs:fleet") // changes meanwhile, because validators keep reporting
			delete(after, "cs:fleet")
			if !maps.Equal(before, after) {
				t.Errorf("after the restart Redis has the keys\n%v\nwant\n%v", after, before)
			}
			client := check.Must(redisfeed.Open(w.OperatorURL, redisfeed.Options{}))(t)
			defer client.Close()
			if v := check.Must(tools.New(client, w.Ring).Verify(t.Context()))(t); len(v.Findings) > 0 || v.Totals.Links != 21 ||
				v.Totals.AuditRows != 21 {
				t.Errorf("%+v", v)
			}
			// Connections of the authority may be broken.
			var revoked *countersignv1.RevokeTokenResponse
			check.Eventually(t, "changes go on", func() (err error) {
				revoked, err = w.management.RevokeToken(w.admin,
					&countersignv1.RevokeTokenRequest{AppId: app, TokenId: first.GetToken().GetTokenId()})
				return err
			})
			w.expect("revoked", revoked.GetConsistencyToken(),
				&countersignv1.AuthorizeRequest{AppId: app, Token: first.GetSecret(), Scope: events},
				deny, countersignv1.Reason_REASON_TOKEN_REVOKED)
		})
	}
}

// lengths returns the size of every key, as Redis reports it.
func (w *world) lengths() map[string]string {
	w.t.Helper()
	found := map[string]string{}
	for _, key := range check.Must(w.Redis.Do("KEYS", "*"))(w.t).([]any) {
		kind := check.Must(w.Redis.Do("TYPE", key.(string)))(w.t).(string)
		command := map[string]string{"string": "STRLEN", "hash": "HLEN", "stream": "XLEN"}[kind]
		found[key.(string)] = fmt.Sprint(kind, check.Must(w.Redis.Do(command, key.(string)))(w.t))
	}
	return found
}
