package store_test

import (
	"testing"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	"github.com/countersign/countersign/services/store"
)

// TestAccountWithoutARight: Redis checks the right to a command only when a script runs the command. While
// the authority's account lacks a right, a change fails and writes nothing. Once the right is granted,
// changes succeed.
func TestAccountWithoutARight(t *testing.T) {
	for _, command := range []string{"xadd", "hset", "set"} {
		t.Run(command, func(t *testing.T) {
			s := newSystem(t)
			account := func(rules ...any) {
				t.Helper()
				if err := s.client.Do(t.Context(), append([]any{"ACL", "SETUSER", "authority"}, rules...)...).Err(); err != nil {
					t.Fatal(err)
				}
			}
			account("on", ">password", "~cs:*", "&*", "+@all", "-"+command)
			opened := s.open(redistest.URL(s.redis.Address(), "authority", "password"))
			held := contents(t, s.client)
			_, err := opened.Update(t.Context(), call("app", "made", add("tok")))
			wantUnavailable(t, err, "STORE_UNAVAILABLE")
			wantSame(t, s.client, held)
			account("+@all")
			update(t, opened, call("app", "made", add("tok")))
		})
	}
}

// TestAnswerOfAnotherRequest: a stored answer counts only under its own key. An attacker who copies it to
// another request's key must not make a call look done.
func TestAnswerOfAnotherRequest(t *testing.T) {
	s := newSystem(t)
	opened := s.open(s.redis.URL())
	update(t, opened, call("app", "made", add("tok")))
	state := func(to policy.State) func(*record.Document) (*record.Document, error) {
		return func(before *record.Document) (*record.Document, error) {
			after := edit(before)
			after.Tokens[0].State = to
			return after, nil
		}
	}
	disable := call("app", "disable", state(policy.Disabled))
	disable.Request = store.Request{Identity: "ada", Method: "Update", ID: "monday", Digest: []byte("disable tok")}
	update(t, opened, disable)
	update(t, opened, call("app", "enable", state(policy.Active)))
	keys := s.keysOf("app")
	raw := check.Must(s.client.Get(t.Context(), keys.Request("ada", "Update", "app", "monday")).Result())(t)
	if err := s.client.Set(t.Context(), keys.Request("ada", "Update", "app", "tuesday"), raw, 0).Err(); err != nil {
		t.Fatal(err)
	}
	disable.Request.ID = "tuesday"
	_, err := opened.Update(t.Context(), disable)
	wantUnavailable(t, err, "POLICY_UNVERIFIED")
}
