package store_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/countersign/countersign/deploy/redisacl"
	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	"github.com/countersign/countersign/services/store"
)

type document = record.Document

func split(address string) (host, port string) {
	host, port, _ = net.SplitHostPort(address)
	return host, port
}

// traffic makes changes all the time, with a goroutine and an app for each partition.
type traffic struct {
	s       *system
	opened  *store.Store
	stopped chan struct{}
	group   sync.WaitGroup
	done    atomic.Int64

	mu sync.Mutex
	// safe are the tokens that all wanted Redis replicas have confirmed, by app.
	safe          map[string][]string
	made, unknown int
	// refused counts changes for which no master was found in time. They changed nothing.
	refused int
	slowest time.Duration
}

// start makes traffic through an authority that heals as soon as the store has lost changes. Calls must
// succeed, except for unknown outcomes and for a few calls during which there was no master.
func (s *system) start(opened *store.Store, number int) *traffic {
	tr := &traffic{s: s, opened: opened, stopped: make(chan struct{}), safe: map[string][]string{}}
	for partition := range partitions {
		tr.group.Go(func() {
			app := s.otherApp(partition, number)
			for i := 0; ; i++ {
				select {
				case <-tr.stopped:
					return
				case <-time.After(5 * time.Millisecond):
				}
				tr.change(partition, app, i)
			}
		})
	}
	return tr
}

func (tr *traffic) change(partition int, app string, number int) {
	token := fmt.Sprint("tok-", number)
	c := call(app, "made", add(token))
	if number%10 == 0 { // each makes a key, which a slot has to take with it
		c.Request = store.Request{Identity: "ada", Method: "Create", ID: token, Digest: []byte("content")}
	}
	started := time.Now()
	result, err := tr.opened.Update(context.Background(), c)
	tr.mu.Lock()
	tr.slowest = max(tr.slowest, time.Since(started))
	switch reason := apierr.ReasonOf(err); {
	case err == nil:
		tr.made++
		if d := result.Durability; d.Acknowledged >= d.Wanted {
			tr.safe[app] = append(tr.safe[app], token)
		}
	case reason == apierr.OutcomeUnknown:
		tr.unknown++
	case reason == apierr.StoreUnavailable:
		tr.refused++
		err = nil
	case reason == apierr.StoreForked:
		tr.mu.Unlock()
		k := knownBy(tr.opened, partition)
		_, err = tr.opened.Heal(context.Background(), partition, 0, k.links, k.sticky, k.seen)
		tr.mu.Lock()
	}
	if reason := apierr.ReasonOf(err); err != nil && reason != apierr.OutcomeUnknown {
		tr.s.t.Errorf("%s %s: %v", app, token, err)
	}
	tr.mu.Unlock()
	tr.done.Add(1)
}

// more returns after some more attempts.
func (tr *traffic) more(t testing.TB) {
	t.Helper()
	until := tr.done.Load() + 20*partitions
	check.Eventually(t, "more changes", func() error {
		if tr.done.Load() < until {
			return errors.New("not yet")
		}
		return nil
	})
}

// end ends all traffic and checks that all safe changes are in the store.
func end(t testing.TB, all ...*traffic) {
	t.Helper()
	for _, tr := range all {
		close(tr.stopped)
	}
	for _, tr := range all {
		tr.group.Wait()
	}
	for _, tr := range all {
		tr.check(t)
	}
}

func (tr *traffic) check(t testing.TB) {
	t.Helper()
	t.Logf("made %d, %d of unknown outcome, %d refused; the slowest took %v", tr.made, tr.unknown, tr.refused, tr.slowest)
	// On a busy machine a failover may take longer than a change waits. Then a change of each partition is
	// refused once or twice.
	if tr.refused > 3*partitions {
		t.Errorf("%d changes were refused", tr.refused)
	}
	for app, tokens := range tr.safe {
		h := tr.s.verify(t, tr.s.codec.PartitionOf(app))
		for _, token := range tokens {
			if d := h.documents[app]; d == nil || find(d, token) == nil {
				t.Errorf("%s of %s was safe and is lost", token, app)
			}
		}
	}
	if len(tr.safe) != partitions {
		t.Errorf("changes of %d apps were safe", len(tr.safe))
	}
}

// TestSentinel: changes continue through planned failovers and through the failure of a master. With a quorum
// of all replicas no change is lost.
func TestSentinel(t *testing.T) {
	s, group := newReplicatedSystem(t, 2)
	options := store.Options{WriteQuorum: 2, QuorumTimeout: 100 * time.Millisecond} // one replica is gone in the end
	opened, other := s.openOptions(group.URLFor(redisacl.Authority, redisacl.Authority), options),
		s.openOptions(group.URLFor(redisacl.Authority, redisacl.Authority), options)
	all := []*traffic{s.start(opened, 1), s.start(other, 2)}
	all[0].more(t)
	group.Failover()
	all[0].more(t)
	group.AwaitStable()
	master := group.Master()
	master.Stop()
	group.AwaitOther(master)
	all[0].more(t)
	s.client = redisClient(t, group.URL()) // without connections to masters that were
	end(t, all...)
}

// TestCluster: on a Redis Cluster changes continue while slots move and masters fail over.
func TestCluster(t *testing.T) {
	cluster := redistest.Options{Accounts: true}.StartCluster(t, 3, 1)
	s := &system{t: t, ring: keyring.Generate()}
	s.client = redisClient(t, cluster.URL())
	s.init()
	opened := s.openOptions(cluster.URLFor(redisacl.Authority, redisacl.Authority), store.Options{WriteQuorum: 1})
	other := s.openOptions(cluster.URLFor(redisacl.Authority, redisacl.Authority), store.Options{WriteQuorum: 1})
	all := []*traffic{s.start(opened, 1), s.start(other, 2)}
	all[0].more(t)
	for partition := range partitions {
		slot := int(check.Must(s.client.ClusterKeySlot(t.Context(), record.KeysOf(partition).Head).Result())(t))
		for _, to := range cluster.Masters() {
			if to != cluster.MasterOf(slot) {
				cluster.MigrateSlot(slot, to)
				break
			}
		}
	}
	cluster.AwaitStable()
	moved := cluster.Masters()[0]
	cluster.Failover(cluster.ReplicasOf(moved)[0])
	all[0].more(t)
	s.client = redisClient(t, cluster.URL())
	end(t, all...)
}

// TestSlotOnItsWay: during a slot migration, with keys on both servers, a change waits. It is never made in
// part.
func TestSlotOnItsWay(t *testing.T) {
	cluster := redistest.Options{Accounts: true}.StartCluster(t, 2, 0)
	s := &system{t: t, ring: keyring.Generate()}
	s.client = redisClient(t, cluster.URL())
	s.init()
	opened := s.openOptions(cluster.URLFor(redisacl.Authority, redisacl.Authority), store.Options{})
	app, partition := "app", s.codec.PartitionOf("app")
	names := record.KeysOf(partition)
	update(t, opened, call(app, "made", add("tok")))
	slot := int(check.Must(s.client.ClusterKeySlot(t.Context(), names.Head).Result())(t))
	to := cluster.Masters()[0]
	if to == cluster.MasterOf(slot) {
		to = cluster.Masters()[1]
	}
	migration := cluster.BeginMigration(slot, to)
	for moved := 0; ; moved++ {
		c := call(app, "made", add(fmt.Sprint("tok-", moved)))
		c.Request = store.Request{Identity: "ada", Method: "Create", ID: fmt.Sprint(moved), Digest: []byte("content")}
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		_, err := opened.Update(ctx, c)
		cancel()
		if err != nil {
			wantUnavailable(t, err, apierr.StoreUnavailable)
		}
		if _, _, err := opened.Read(t.Context(), app); err != nil {
			t.Errorf("after %d keys were moved the app cannot be read: %v", moved, err)
		}
		if !migration.MoveKey() {
			break
		}
	}
	ended := make(chan error, 1)
	go func() {
		_, err := opened.Update(context.WithoutCancel(t.Context()), call(app, "changed", note("noted")))
		ended <- err
	}()
	migration.Finish()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if h := s.verify(t, partition); h.documents[app].Tokens[0].Note != "noted" {
		t.Errorf("got %+v", h.documents[app])
	}
}

// TestHealCluster: a partition on a Cluster is healed as on one server, also after it was wiped.
func TestHealCluster(t *testing.T) {
	cluster := redistest.Options{Accounts: true}.StartCluster(t, 3, 0)
	s := &system{t: t, ring: keyring.Generate()}
	s.client = redisClient(t, cluster.URL())
	s.init()
	opened := s.openOptions(cluster.URLFor(redisacl.Authority, redisacl.Authority), store.Options{})
	for partition := range partitions {
		update(t, opened, call(s.appIn(partition), "made", add("tok")))
		update(t, opened, call(s.appIn(partition), "made", add("tok-2")))
	}
	if err := opened.Replica().Confirm(t.Context()); err != nil {
		t.Fatal(err)
	}
	var all []known
	for partition := range partitions {
		all = append(all, knownBy(opened, partition))
	}
	if err := s.client.UniversalClient.(*redis.ClusterClient).ForEachMaster(t.Context(),
		func(ctx context.Context, node *redis.Client) error {
			return node.FlushAll(ctx).Err()
		}); err != nil {
		t.Fatal(err)
	}
	healer := s.withMeta(opened)
	for partition := range partitions {
		heal(t, healer, partition, all[partition])
		if h := s.verify(t, partition); len(h.documents[s.appIn(partition)].Tokens) != 2 {
			t.Errorf("got %+v", h.documents)
		}
	}
	if _, err := s.client.Meta(t.Context(), s.ring); err != nil {
		t.Error(err)
	}
}
