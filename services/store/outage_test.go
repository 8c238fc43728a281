package store_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	"github.com/countersign/countersign/services/store"
)

// TestFullRedis: when Redis is out of memory, ordinary changes fail. Urgent ones, such as a revocation,
// succeed (B08).
func TestFullRedis(t *testing.T) {
	s := newSystem(t, "--maxmemory-policy", "noeviction")
	opened := s.open(s.redis.URL())
	partition := s.codec.PartitionOf("app")
	update(t, opened, call("app", "made", add("tok")))
	update(t, opened, call("app", "made", add("tok-2")))
	if err := s.client.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}

	for _, appID := range []string{"app", s.otherApp(partition, 0)} {
		_, err := opened.Update(t.Context(), call(appID, "refused", add("tok-3")))
		wantUnavailable(t, err, apierr.StoreUnavailable)
	}
	if h := s.verify(t, partition); len(h.links) != 2 || len(h.documents) != 1 {
		t.Fatalf("got %d changes of %d apps, want 2 changes of 1 app", len(h.links), len(h.documents))
	}

	urgent := call("app", "revoked", revoke)
	urgent.Urgent = true
	urgent.Request = store.Request{Identity: "ada", Method: "Revoke", ID: "r1", Digest: []byte("content")}
	update(t, opened, urgent)
	if again := update(t, opened, urgent); again.Repeated == nil {
		t.Error("the answer of an urgent request was not kept")
	}
	// An urgent call that changes nothing succeeds too, although Redis has no room for its answer.
	urgent.Request.ID = "r2"
	urgent.Change = func(*record.Document) (*record.Document, error) { return nil, nil }
	update(t, opened, urgent)
	if h := s.verify(t, partition); len(h.links) != 3 || h.events[2].GetMethod() != "revoked" {
		t.Errorf("got %d changes, want 3, the last one by the method revoked", len(h.links))
	}

	if err := s.client.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	update(t, opened, call("app", "made", add("tok-3")))
	s.verify(t, partition)
}

// TestRedisIsDown: while Redis is down, a call fails within seconds. After Redis is back, calls succeed
// again.
func TestRedisIsDown(t *testing.T) {
	s := newSystem(t, "--appendonly", "yes", "--appendfsync", "always")
	opened := s.open(s.redis.URL())
	update(t, opened, call("app", "made", add("tok")))
	s.redis.Stop()
	for what, call := range map[string]func() error{
		"a change": func() error {
			_, err := opened.Update(t.Context(), call("app", "refused", add("tok-2")))
			return err
		},
		"a read": func() error { _, _, err := opened.Read(t.Context(), "app"); return err },
	} {
		started := time.Now()
		wantUnavailable(t, call(), apierr.StoreUnavailable)
		check.Within(t, what, time.Since(started), 9*time.Second, 9500*time.Millisecond)
	}
	// A call with a shorter deadline ends at its deadline.
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	started := time.Now()
	_, err := opened.Update(ctx, call("app", "refused", add("tok-2")))
	wantUnavailable(t, err, apierr.StoreUnavailable)
	check.Within(t, "a change with a deadline of 1 s", time.Since(started), 3*time.Second, 9*time.Second)
	s.redis.Restart()
	check.Eventually(t, "a change after the outage", func() error {
		_, err := opened.Update(t.Context(), call("app", "changed", note("noted")))
		return err
	})
	if h := s.verify(t, s.codec.PartitionOf("app")); h.documents["app"].Tokens[0].Note != "noted" || len(h.events) != 2 {
		t.Errorf("got %d audit events and %+v, want 2 events and the note \"noted\"", len(h.events), h.documents["app"])
	}
}

// TestRedisLostEverything: when Redis has lost all data, calls fail. The authority does not initialise a new
// store.
func TestRedisLostEverything(t *testing.T) {
	s := newSystem(t)
	opened := s.open(s.redis.URL())
	update(t, opened, call("app", "made", add("tok")))
	s.redis.Stop()
	s.redis.Restart()
	check.Eventually(t, "Redis", func() error { return s.client.Ping(t.Context()).Err() })
	for _, appID := range []string{"app", "new"} {
		_, err := opened.Update(t.Context(), call(appID, "refused", add("tok-2")))
		wantUnavailable(t, err, apierr.StoreUnavailable)
	}
	wantSame(t, s.client, map[string]string{})
}

// TestShortOutage: when Redis is down for a second, as in a failover, a call with time left waits and
// succeeds (B20).
func TestShortOutage(t *testing.T) {
	s := newSystem(t, "--appendonly", "yes", "--appendfsync", "always")
	opened := s.open(s.redis.URL())
	update(t, opened, call("app", "made", add("tok")))
	s.redis.Stop()
	ended := make(chan error, 2)
	go func() {
		_, err := opened.Update(context.WithoutCancel(t.Context()), call("app", "changed", note("noted")))
		ended <- err
	}()
	go func() {
		_, _, err := opened.Read(context.WithoutCancel(t.Context()), "app")
		ended <- err
	}()
	back := time.NewTimer(time.Second)
	select {
	case err := <-ended:
		t.Errorf("a call did not wait: %v", err)
	case <-back.C:
	}
	s.redis.Restart()
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	if h := s.verify(t, s.codec.PartitionOf("app")); len(h.links) != 2 {
		t.Errorf("got %d changes, want 2", len(h.links))
	}
}

// TestRedisIsAReplica: when the authority is connected to a read-only Redis replica, changes fail and nothing
// is written.
func TestRedisIsAReplica(t *testing.T) {
	s := newSystem(t, "--repl-diskless-sync-delay", "0")
	update(t, s.open(s.redis.URL()), call("app", "made", add("tok")))
	host, port, _ := strings.Cut(s.redis.Address(), ":")
	copied := redistest.Start(t, "--replicaof", host+" "+port)
	client := redisClient(t, copied.URL())
	awaitInfo(t, client, "replication", "master_link_status", "up")
	held := contents(t, client)

	opened := s.open(copied.URL())
	urgent := call("app", "revoked", revoke)
	urgent.Urgent = true
	for _, c := range []store.Call{call("app", "refused", add("tok-2")), urgent} {
		started := time.Now()
		_, err := opened.Update(t.Context(), c)
		wantUnavailable(t, err, apierr.StoreUnavailable)
		check.Within(t, "a change", time.Since(started), 9*time.Second, 9500*time.Millisecond)
	}
	wantSame(t, client, held)
}

// TestNobodyMayPublish: a Redis account that may not publish (the default of Redis ACLs) sends no hints. Its
// changes succeed all the same.
func TestNobodyMayPublish(t *testing.T) {
	s := newSystem(t)
	if err := s.client.Do(t.Context(), "ACL", "SETUSER", "authority", "on", ">password", "~cs:*", "resetchannels",
		"+@all").Err(); err != nil {
		t.Fatal(err)
	}
	opened := s.open(redistest.URL(s.redis.Address(), "authority", "password"))
	update(t, opened, call("app", "made", add("tok")))
	if h := s.verify(t, s.codec.PartitionOf("app")); len(h.links) != 1 {
		t.Errorf("got %d changes, want 1", len(h.links))
	}
}

// TestMissingRights: when the Redis account lacks a right that a commit needs, the commit writes nothing.
// Redis checks the right for each command when the script runs it, so a commit could otherwise stop halfway.
func TestMissingRights(t *testing.T) {
	s := newSystem(t)
	request := store.Request{Identity: "ada", Method: "Create", ID: "r1", Digest: []byte("content")}
	const all = "~cs:* &cs:* +@all "
	for name, rights := range map[string]string{
		"may not run XADD": all + "-xadd", "may not run HSET": all + "-hset", "may not run SET": all + "-set",
		"may not run commands that write": all + "-@write", "may not run TYPE": all + "-type",
		"may not run EXISTS": all + "-exists", "may not run XINFO": all + "-xinfo",
		"no right to the audit trail": "~cs:{*}:head ~cs:{*}:log ~cs:{*}:policies ~cs:{*}:request:* &cs:* +@all",
		"no right to request results": "~cs:{*}:head ~cs:{*}:log ~cs:{*}:policies ~cs:{*}:audit &cs:* +@all",
		"heads are read-only":         "%R~cs:{*}:head ~cs:{*}:log ~cs:{*}:policies ~cs:{*}:request:* ~cs:{*}:audit &cs:* +@all",
		"documents are read-only":     "~cs:{*}:head ~cs:{*}:log %R~cs:{*}:policies ~cs:{*}:request:* ~cs:{*}:audit &cs:* +@all",
	} {
		t.Run(name, func(t *testing.T) {
			rules := append([]any{"ACL", "SETUSER", "authority", "reset", "on", ">password"}, fields(rights)...)
			if err := s.client.Do(t.Context(), rules...).Err(); err != nil {
				t.Fatal(err)
			}
			system := *s
			system.t = t
			opened := system.open(redistest.URL(s.redis.Address(), "authority", "password"))
			held := contents(t, s.client)
			c := call("app", "refused", add("tok"))
			c.Request = request
			_, err := opened.Update(t.Context(), c)
			wantUnavailable(t, err, apierr.StoreUnavailable)
			wantSame(t, s.client, held)
		})
	}
}

func fields(text string) (all []any) {
	for field := range strings.FieldsSeq(text) {
		all = append(all, field)
	}
	return all
}

// TestSeenLate: when another authority commits while this one reads the app for a change, this one reads
// again. It does not report the mismatch as damage.
func TestSeenLate(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fault fault // in the HGET of the document, which follows the GET of the head
		there bool  // the app exists before both changes
	}{
		{"a new app is committed after head and document are read", holding, false},
		{"a change is committed after head and document are read", holding, true},
		{"a new app is committed after the head is read, before the document is", waiting, false},
		{"a change is committed after the head is read, before the document is", waiting, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSystem(t)
			p := startProxy(t, s.redis.Address())
			slow := s.openWith(redisClient(t, p.url()), s.replica(redisClient(t, s.redis.URL())))
			fast := s.open(s.redis.URL())
			want := 2
			if tt.there {
				update(t, fast, call("app", "made", add("tok")))
				want++
			}
			p.spoil(once("hget", tt.fault, func() {}))
			ended := make(chan error, 2)
			go func() {
				_, err := slow.Update(context.WithoutCancel(t.Context()), call("app", "slow", add("slow")))
				ended <- err
			}()
			p.awaitHeld(t)
			done := update(t, fast, call("app", "fast", add("fast")))
			if err := slow.Replica().Reach(t.Context(), done.Position.Partition, done.Position.Cursor); err != nil {
				t.Fatal(err)
			}
			p.release()
			if err := <-ended; err != nil {
				t.Errorf("the change of the slow authority: %v", err)
			}
			h := s.verify(t, s.codec.PartitionOf("app"))
			if len(h.documents["app"].Tokens) != want || find(h.documents["app"], "slow") == nil {
				t.Errorf("got %+v, want %d tokens with the token slow", h.documents["app"].Tokens, want)
			}
		})
	}
}

// TestReadsAreLinearizable: after one authority has committed a change, another one reads it at once, even if
// its replica does not hold the change.
func TestReadsAreLinearizable(t *testing.T) {
	s := newSystem(t)
	one, two := s.open(s.redis.URL()), s.open(s.redis.URL())
	if d, head, err := one.Read(t.Context(), "app"); d != nil || err != nil || head.Revision != 0 {
		t.Fatalf("an app that does not exist: got %+v at %s, %v, want no document at revision 0", d, head.Cursor, err)
	}
	update(t, one, call("app", "made", add("tok")))
	for i := range 200 {
		text := fmt.Sprint(i)
		writer, reader := one, two
		if i%2 == 0 {
			writer, reader = two, one
		}
		done := update(t, writer, call("app", "changed", note(text)))
		d, head, err := reader.Read(t.Context(), "app")
		if err != nil || d.Tokens[0].Note != text || d.Cursor != done.Position.Cursor || head.Cursor != done.Position.Cursor {
			t.Fatalf("read %+v at %s, %v, want note %s", d, head.Cursor, err, text)
		}
	}
}

// TestChangesThatChangeNothing: a call that changes nothing, or whose change fails, writes nothing. The
// former returns a position at which the store already had the app's document.
func TestChangesThatChangeNothing(t *testing.T) {
	s := newSystem(t)
	opened := s.open(s.redis.URL())
	done := update(t, opened, call("app", "made", add("tok")))
	held := contents(t, s.client)
	result := update(t, opened, call("app", "nothing", func(*record.Document) (*record.Document, error) { return nil, nil }))
	if result.Position != done.Position || result.Before == nil || result.Before != result.After {
		t.Errorf("got %+v, want the position %+v", result, done.Position)
	}
	refused := apierr.Aborted("WHY", "because")
	_, err := opened.Update(t.Context(), call("app", "refused",
		func(*record.Document) (*record.Document, error) { return nil, refused }))
	if !errors.Is(err, refused) {
		t.Errorf("got %v, want the change's own error", err)
	}
	wantSame(t, s.client, held)
}

// TestTouchedTokens: a token's TouchedRevision, from which its etag is made, is the revision of the token's
// latest change (B07).
func TestTouchedTokens(t *testing.T) {
	s := newSystem(t)
	opened := s.open(s.redis.URL())
	first := update(t, opened, call("app", "made", add("a"))).Position.Revision
	second := update(t, opened, call("app", "made", add("b"))).Position.Revision
	update(t, opened, call(s.otherApp(s.codec.PartitionOf("app"), 0), "elsewhere", add("c")))
	third := update(t, opened, call("app", "changed", note("noted"))).Position.Revision
	d, _, err := opened.Read(t.Context(), "app")
	if err != nil {
		t.Fatal(err)
	}
	if d.Tokens[0].TouchedRevision != third || d.Tokens[1].TouchedRevision != second || first == third {
		t.Errorf("got %d and %d, want %d and %d", d.Tokens[0].TouchedRevision, d.Tokens[1].TouchedRevision, third, second)
	}
}

// TestHints: each change is published on its partition's channel after it was made.
func TestHints(t *testing.T) {
	s := newSystem(t)
	subscription := s.client.Subscribe(t.Context(), s.keysOf("app").Hint)
	defer subscription.Close()
	if _, err := subscription.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	done := update(t, s.open(s.redis.URL()), call("app", "made", add("tok")))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	message := check.Must(subscription.ReceiveMessage(ctx))(t)
	link := check.Must(s.codec.OpenLink(done.Position.Partition, []byte(message.Payload)))(t)
	entries := check.Must(s.client.XRange(t.Context(), s.keysOf("app").Log, "-", "+").Result())(t)
	if message.Channel != s.keysOf("app").Hint || link.Cursor != done.Position.Cursor ||
		entries[0].Values[redisfeed.LinkField] != message.Payload {
		t.Errorf("got %+v on channel %s, want the change %s as in the log", link, message.Channel, done.Position.Cursor)
	}
}
