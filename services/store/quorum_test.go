package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/countersign/countersign/deploy/redisacl"
	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	"github.com/countersign/countersign/services/store"
)

// patient is how long a store waits for Redis replicas that must confirm.
const patient = time.Minute

// newReplicatedSystem returns a store in a master with Redis replicas.
func newReplicatedSystem(t *testing.T, replicas int) (*system, *redistest.Replicated) {
	t.Helper()
	group := redistest.Options{Accounts: true}.StartReplicated(t, replicas)
	s := &system{t: t, redis: group.Master(), ring: keyring.Generate()}
	s.client = redisClient(t, group.URL())
	s.init()
	return s, group
}

// openOptions opens the store with options.
func (s *system) openOptions(url string, options store.Options) *store.Store {
	s.t.Helper()
	client := redisClient(s.t, url)
	return store.New(store.Over(client, partitions, options), s.replica(client), options, quiet)
}

// TestWriteQuorum: with a quorum, each change waits for that many Redis replicas, and its result says how
// many confirmed it. If fewer confirm it, the change is made all the same.
func TestWriteQuorum(t *testing.T) {
	s, group := newReplicatedSystem(t, 2)
	opened := func(quorum int, timeout time.Duration) *store.Store {
		options := store.Options{WriteQuorum: quorum, QuorumTimeout: timeout}
		return s.openOptions(group.URLFor(redisacl.Authority, redisacl.Authority), options)
	}
	none, one, two, three := opened(0, 0), opened(1, patient), opened(2, patient), opened(3, 0)
	impatient := opened(2, 0)
	number := 0
	change := func(what string, opened *store.Store, wanted, least, most int) store.Result {
		t.Helper()
		number++
		started := time.Now()
		result := update(t, opened, call("app", "made", add(fmt.Sprint("tok-", number))))
		if d := result.Durability; d.Wanted != wanted || d.Acknowledged < least || d.Acknowledged > most {
			t.Errorf("%s: got %+v, want %d wanted, %d to %d acknowledged", what, d, wanted, least, most)
		}
		check.Within(t, what, time.Since(started), 5*time.Second, 9*time.Second)
		return result
	}
	change("without a quorum", none, 0, 0, 0)
	change("one of two", one, 1, 1, 2)
	change("two of two", two, 2, 2, 2)
	change("three of two", three, 3, 2, 2)
	nothing := update(t, one, call("app", "nothing", func(*document) (*document, error) { return nil, nil }))
	if d := nothing.Durability; d != (store.Durability{Wanted: 1}) {
		t.Errorf("a call that changed nothing: got %+v, want 1 wanted, 0 acknowledged", d)
	}
	c := call("app", "made", add("again"))
	c.Request = store.Request{Identity: "ada", Method: "Create", ID: "r1", Digest: []byte("content")}
	update(t, two, c)
	if again := update(t, two, c); again.Repeated == nil || again.Durability != (store.Durability{Wanted: 2}) {
		t.Errorf("a repetition: got %+v, want 2 wanted, 0 acknowledged", again.Durability)
	}

	for _, replica := range group.Replicas() {
		replica.Pause()
	}
	change("replicas that do not answer", impatient, 2, 0, 0)
	for _, replica := range group.Replicas() {
		replica.Resume()
	}
	group.AwaitStable()
	change("replicas that answer again", two, 2, 2, 2)
	if h := s.verify(t, s.codec.PartitionOf("app")); len(h.documents["app"].Tokens) != number+1 {
		t.Errorf("%d changes were made, the app has %d tokens", number+1, len(h.documents["app"].Tokens))
	}
}

// TestQuorumOfALostReply: after a lost reply it is unknown how many replicas have the change.
func TestQuorumOfALostReply(t *testing.T) {
	s := newSystem(t, "--repl-diskless-sync-delay", "0")
	host, port := split(s.redis.Address())
	copied := redistest.Start(t, "--replicaof", host+" "+port)
	awaitInfo(t, redisClient(t, copied.URL()), "replication", "master_link_status", "up")
	p := startProxy(t, s.redis.Address())
	opened := s.openOptions(p.url(), store.Options{WriteQuorum: 1, QuorumTimeout: patient})
	for name, f := range map[string]fault{"eval": after, "wait": before} {
		p.spoil(once(name, f, func() {}))
		result := update(t, opened, call("app", "made", add("lost "+name)))
		p.spoil(nil)
		if d := result.Durability; d != (store.Durability{Wanted: 1}) {
			t.Errorf("%s: got %+v", name, d)
		}
	}
	if result := update(t, opened, call("app", "made", add("tok"))); result.Durability != (store.Durability{
		Wanted:       1,
		Acknowledged: 1,
	}) {
		t.Errorf("got %+v", result.Durability)
	}
	if h := s.verify(t, s.codec.PartitionOf("app")); len(h.links) != 3 {
		t.Errorf("there are %d changes", len(h.links))
	}
}

// TestQuorumOfAHealing: a healing waits for the Redis replicas too.
func TestQuorumOfAHealing(t *testing.T) {
	s, opened, partition, k := lossy(t, "--repl-diskless-sync-delay", "0")
	host, port := split(s.redis.Address())
	copied := redistest.Start(t, "--replicaof", host+" "+port)
	awaitInfo(t, redisClient(t, copied.URL()), "replication", "master_link_status", "up")
	options := store.Options{WriteQuorum: 1, QuorumTimeout: patient}
	healer := store.New(store.Over(s.client, partitions, options), opened.Replica(), options, quiet)
	if healed := heal(t, healer, partition, k); healed.Durability != (store.Durability{Wanted: 1, Acknowledged: 1}) {
		t.Errorf("got %+v", healed.Durability)
	}
}
