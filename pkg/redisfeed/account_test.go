package redisfeed_test

import (
	"strings"
	"testing"

	"github.com/countersign/countersign/deploy/redisacl"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	"github.com/countersign/countersign/pkg/testkit/storetest"
)

// account are the rules of a validator's Redis account.
var account = redisacl.Rules(redisacl.Validator)

// allow gives a user of the server the rules of a validator's account.
func (k *kit) allow(t *testing.T, user, password string) {
	t.Helper()
	args := []any{"ACL", "SETUSER", user, "reset", "on", ">" + password}
	for _, rule := range strings.Fields(account) {
		args = append(args, rule)
	}
	if err := k.admin.Do(t.Context(), args...).Err(); err != nil {
		t.Fatal(err)
	}
}

// TestReadOnlyAccountIsEnough for all that a validator does, and allows nothing else.
func TestReadOnlyAccountIsEnough(t *testing.T) {
	k := start(t, 4)
	app := k.store.App(1, 0)
	k.store.Commit(app, storetest.AddToken("a"))
	k.allow(t, "validator", "password")
	url := redistest.URL(k.server.Address(), "validator", "password")
	client, feed := open(t, url), k.feed(t, url)

	if _, err := client.Meta(limited(t), k.store.Ring()); err != nil {
		t.Errorf("Meta: %v", err)
	}
	if heads, err := feed.Heads(limited(t)); err != nil || len(heads) != 4 {
		t.Errorf("Heads: %d, %v", len(heads), err)
	}
	if _, links, err := feed.Tail(limited(t), 1, 0, 10); err != nil || len(links) != 1 {
		t.Errorf("Tail: %d links, %v", len(links), err)
	}
	found := 0
	if err := feed.Documents(limited(t), 1, func(string, []byte) { found++ }); err != nil || found != 1 {
		t.Errorf("Documents: %d, %v", found, err)
	}
	w := watch(t, feed)
	k.subscribed(t, 1)
	made := k.store.Commit(app, storetest.AddToken("b"))
	if h := w.next(t); h.partition != 1 || h.raw != string(made.Link) {
		t.Errorf("Watch: %+v", h)
	}

	keys := record.KeysOf(1)
	for _, forbidden := range [][]any{
		{"SET", keys.Head, "x"},
		{"HSET", keys.Policies, app, "x"},
		{"XADD", keys.Log, "*", "l", "x"},
		{"DEL", keys.Policies},
		{"PUBLISH", keys.Hint, "x"},
		{"EVAL", "return 1", "0"},
		{"xrange", keys.Audit, "-", "+"},
		{"GET", keys.Request("admin", "CreateToken", app, "id")},
		{"GET", "cs:init"},
		{"GET", "other"},
		{"KEYS", "*"},
		{"SUBSCRIBE", "other"},
		{"CONFIG", "GET", "*"},
		{"ACL", "WHOAMI"},
		{"FLUSHALL"},
	} {
		if err := client.Do(limited(t), forbidden...).Err(); err == nil || !strings.HasPrefix(err.Error(), "NOPERM") {
			t.Errorf("%v: %v, want NOPERM", forbidden, err)
		}
	}
}

// TestErrorsNeverHoldThePassword, whether the URL does not parse, no server answers, or the password is
// rejected.
func TestErrorsNeverHoldThePassword(t *testing.T) {
	k := start(t, 1)
	const password = "pa55-w0rd"
	k.allow(t, "validator", "another")
	check := func(what string, err error) {
		t.Helper()
		if err == nil || strings.Contains(err.Error(), password) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, url := range []string{
		"", "x", password, "validator:" + password + "@host:1", "http://validator:" + password + "@host:1",
		"redis://validator:" + password + "@host:port",
		"redis://validator:" + password + "%zz@host:1", "redis://validator:" + password + "@host:1/db",
		"redis://validator:" + password + "@host:1/0/1",
		"redis://validator:" + password + "@[::1:1", "redis://validator:" + password + "@host:1/0?" + password + "=1",
		"redis://host:1?password=" + password,
		"redis://:" + password + "\x7f@host:1", "rediss//" + password,
	} {
		_, err := redisfeed.Open(url, redisfeed.Options{})
		check(url, err)
	}
	refused := redistest.URL(k.server.Address(), "validator", password)
	nobody := redistest.URL(k.server.Address(), "nobody", password)
	stopped := redistest.Start(t)
	stopped.Stop()
	for what, url := range map[string]string{
		"refused": refused, "no such user": nobody,
		"no server": redistest.URL(stopped.Address(), "validator", password),
	} {
		client, feed := open(t, url), k.feed(t, url)
		_, err := client.Meta(limited(t), k.store.Ring())
		check(what, err)
		_, err = feed.Heads(limited(t))
		check(what, err)
		check(what, feed.Documents(limited(t), 0, func(string, []byte) {}))
		check(what, feed.Watch(limited(t), func(int, []byte) {}))
	}
}
