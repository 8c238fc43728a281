package store_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/store"
)

// save keeps what Redis holds of a partition, and returns what makes it so again: a failover that loses all
// since.
func (s *system) save(partition int) (lose func()) {
	s.t.Helper()
	ctx := context.Background()
	names := record.KeysOf(partition)
	saved := map[string]string{}
	for _, key := range []string{names.Head, names.Policies, names.Log, names.Audit} {
		saved[key] = s.client.Dump(ctx, key).Val() // empty for a key that is not there
	}
	return func() {
		s.t.Helper()
		pipe := s.client.TxPipeline()
		for key, raw := range saved {
			if pipe.Del(ctx, key); raw != "" {
				pipe.RestoreReplace(ctx, key, 0, raw)
			}
		}
		if _, err := pipe.Exec(ctx); err != nil {
			s.t.Fatal(err)
		}
	}
}

// known is what an authority's replica knows of a partition.
type known struct {
	links  [][]byte
	sticky []replica.Sticky
	seen   []record.Cursor
}

func knownBy(opened *store.Store, partition int) known {
	r := opened.Replica()
	return known{r.Links(partition), r.Sticky(partition), []record.Cursor{r.Cursors()[partition]}}
}

func heal(t testing.TB, opened *store.Store, partition int, k known) store.Healed {
	t.Helper()
	healed, err := opened.Heal(t.Context(), partition, 0, k.links, k.sticky, k.seen)
	if begun := (*store.NotAwaitedError)(nil); errors.As(err, &begun) {
		healed, err = opened.Heal(t.Context(), partition, begun.Epoch, k.links, k.sticky, k.seen)
	}
	if err != nil {
		t.Fatal(err)
	}
	return healed
}

// states returns the state of an app's tokens by id.
func (h history) states(app string) map[string]policy.State {
	states := map[string]policy.State{}
	for _, token := range h.documents[app].Tokens {
		states[token.ID] = token.State
	}
	return states
}

// lossy is a store whose partition has lost two changes of "app": a token that was made, and the revocation
// of the one before. The authority knows them; another one comes later and does not.
func lossy(t *testing.T, redisArgs ...string) (s *system, opened *store.Store, partition int, k known) {
	t.Helper()
	s = newSystem(t, redisArgs...)
	opened, partition = s.open(s.redis.URL()), s.codec.PartitionOf("app")
	update(t, opened, call("app", "made", add("tok")))
	lose := s.save(partition)
	update(t, opened, call("app", "made", add("tok-2")))
	update(t, opened, call("app", "revoked", revoke))
	if err := opened.Replica().Confirm(t.Context()); err != nil {
		t.Fatal(err)
	}
	k = knownBy(opened, partition)
	lose()
	return s, opened, partition, k
}

var healedStates = map[string]policy.State{"tok": policy.Revoked, "tok-2": policy.Active}

// TestHeal: what a failover has lost comes back as a new epoch, with its audit rows; who knew it and who
// did not follow, and changes go on.
func TestHeal(t *testing.T) {
	s, opened, partition, k := lossy(t)
	check.Eventually(t, "the fork is noticed", func() error {
		if !opened.Replica().Forked(partition) {
			return errors.New("not yet")
		}
		return nil
	})
	_, err := opened.Update(t.Context(), call("app", "refused", add("tok-3")))
	wantUnavailable(t, err, apierr.StoreForked)

	healed := heal(t, opened, partition, k)
	h := s.verify(t, partition)
	if healed.Nothing || healed.Lost != 2 || !slices.Equal(healed.Apps, []string{"app"}) || healed.End != h.head.Cursor || healed.Start != h.starts[0].Cursor {
		t.Errorf("got %+v, the head is at %s", healed, h.head.Cursor)
	}
	if got := h.states("app"); !maps.Equal(got, healedStates) {
		t.Errorf("the app has %v", got)
	}
	row := h.events[len(h.events)-1]
	if row.GetMethod() != "Heal" || row.GetIdentity() != "countersign" || h.starts[0].Cause != countersignv1.EpochCause_EPOCH_CAUSE_HEALED {
		t.Errorf("audited as %v", row)
	}
	if again := heal(t, opened, partition, k); !again.Nothing {
		t.Errorf("the second time: %+v", again)
	}
	update(t, opened, call("app", "made", add("tok-3")))
	late := s.open(s.redis.URL())
	update(t, late, call("app", "made", add("tok-4")))
	update(t, opened, call("app", "changed", note("noted")))
	if h := s.verify(t, partition); len(h.links) != 5 || opened.Replica().Forked(partition) || len(opened.Replica().Orphans(partition)) > 0 {
		t.Errorf("there are %d changes, and %d that the store does not have", len(h.links), len(opened.Replica().Orphans(partition)))
	}
}

// TestHealDescribed: the audit event of a healing has the documents before and after, from the function that
// completes the events of all changes.
func TestHealDescribed(t *testing.T) {
	s, opened, partition, k := lossy(t)
	options := store.Options{Audit: func(event *countersignv1.AuditEvent, before, after *record.Document) {
		event.RequestId = fmt.Sprint(event.GetIdentity(), len(before.Tokens), len(after.Tokens))
	}}
	described := store.New(store.Over(s.client, partitions, options), opened.Replica(), options, quiet)
	heal(t, described, partition, k)
	h := s.verify(t, partition)
	if got := h.events[len(h.events)-1].GetRequestId(); got != "countersign1 2" {
		t.Errorf("described as %q", got)
	}
}

// TestB23_HealedChangesKeepTheirAuthors: the audit row of a healing says who had made what it brings back,
// and when, and what was given up for it, by app (B30). The link of the healing carries them too, for the
// case that it is lost itself.
func TestB23_HealedChangesKeepTheirAuthors(t *testing.T) {
	s := newSystem(t)
	opened, partition := s.open(s.redis.URL()), s.codec.PartitionOf("app")
	by := func(name string, c store.Call) store.Call {
		c.Event = &countersignv1.AuditEvent{Identity: name}
		return c
	}
	update(t, opened, by("ada", call("app", "made", add("tok"))))
	loseAll := s.save(partition)
	update(t, opened, by("bob", call("app", "made", add("tok-2"))))
	update(t, opened, by("eve", call("app", "noted", note("lost"))))
	if err := opened.Replica().Confirm(t.Context()); err != nil {
		t.Fatal(err)
	}
	lost := knownBy(opened, partition)
	loseAll()
	other := s.open(s.redis.URL())
	update(t, other, by("ann", call("app", "noted", note("kept"))))

	check := func(h history) {
		t.Helper()
		row := h.events[len(h.events)-1]
		var authors []string
		for _, c := range row.GetHealedChanges() {
			authors = append(authors, c.GetIdentities()...)
			if c.GetRevision() == 0 || c.GetEpoch() == 0 || c.GetChangeTime() == nil {
				t.Errorf("healed %v", c)
			}
		}
		if row.GetMethod() != "Heal" || !slices.Equal(authors, []string{"bob", "eve"}) {
			t.Errorf("audited as %v", row)
		}
		if len(h.documents["app"].Tokens) != 2 {
			t.Errorf("the app has %v", h.states("app"))
		}
	}
	healed := heal(t, opened, partition, lost)
	h := s.verify(t, partition)
	check(h)
	if given := h.events[len(h.events)-1].GetGivenUp(); len(given) != 1 || given[0].GetField() != "note" || given[0].GetTokenId() != "tok" ||
		len(healed.Conflicts["app"]) != 1 || !slices.Equal(healed.Apps, []string{"app"}) {
		t.Errorf("given up %v, %+v", given, healed)
	}
	if link := h.links[len(h.links)-1]; !slices.Equal(link.Authors, []string{"bob", "eve"}) || !link.SettingsKept {
		t.Errorf("the healing is %+v", link)
	}
}

// TestB30_AFailoverThatBothSidesWentOnFrom: the store took a note after a failover that had lost an
// enforcement and a token. All three are there afterwards, and nothing was given up.
func TestB30_AFailoverThatBothSidesWentOnFrom(t *testing.T) {
	s := newSystem(t)
	opened, partition := s.open(s.redis.URL()), s.codec.PartitionOf("app")
	update(t, opened, call("app", "made", add("tok")))
	lose := s.save(partition)
	update(t, opened, call("app", "enforced", func(before *record.Document) (*record.Document, error) {
		after := edit(before)
		after.Enforcement.Scopes = policy.ScopesOf(1)
		return after, nil
	}))
	update(t, opened, call("app", "made", add("tok-2")))
	if err := opened.Replica().Confirm(t.Context()); err != nil {
		t.Fatal(err)
	}
	lost := knownBy(opened, partition)
	lose()
	update(t, s.open(s.redis.URL()), call("app", "noted", note("noted")))
	healed := heal(t, opened, partition, lost)
	d := s.verify(t, partition).documents["app"]
	if len(d.Tokens) != 2 || d.Tokens[0].Note != "noted" || d.Enforcement.Scopes != policy.ScopesOf(1) || len(healed.Conflicts) > 0 {
		t.Errorf("the app is %+v; given up is %+v", d, healed.Conflicts)
	}
}

// TestHealersAtOnce: of several authorities that heal at once one does, and the others find it done.
func TestHealersAtOnce(t *testing.T) {
	for round := range 5 {
		s, opened, partition, k := lossy(t)
		stores := []*store.Store{opened}
		for range 3 {
			client := redisClient(t, s.redis.URL())
			stores = append(stores, s.openWith(client, opened.Replica()))
		}
		var group sync.WaitGroup
		results := make([]store.Healed, len(stores))
		for i, each := range stores {
			group.Go(func() {
				var err error
				if results[i], err = each.Heal(context.Background(), partition, 0, k.links, k.sticky, k.seen); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		did := 0
		for _, healed := range results {
			if !healed.Nothing {
				did++
			}
		}
		if h := s.verify(t, partition); did != 1 || len(h.starts) != 1 || !maps.Equal(h.states("app"), healedStates) {
			t.Errorf("round %d: %d healed, %d epochs were begun", round, did, len(h.starts))
		}
	}
}

// TestHealAmongChanges: an authority that does not know of the loss goes on writing while another heals.
// Nothing of either is lost.
func TestHealAmongChanges(t *testing.T) {
	s, opened, partition, k := lossy(t)
	other := s.open(s.redis.URL())
	stop := make(chan struct{})
	var group sync.WaitGroup
	theirs := s.otherApp(partition, 0)
	made := 0
	group.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := other.Update(context.Background(), call(theirs, "theirs", add(fmt.Sprint("tok-", made)))); err != nil {
				t.Errorf("%v", err)
				return
			}
			made++
		}
	})
	healed := heal(t, opened, partition, k)
	close(stop)
	group.Wait()
	h := s.verify(t, partition)
	if healed.Nothing || !maps.Equal(h.states("app"), healedStates) || made > 0 && len(h.documents[theirs].Tokens) != made {
		t.Errorf("healed %+v, %d changes were made meanwhile, the app has %v", healed, made, h.states("app"))
	}
}

// TestHealInterrupted: whatever becomes of the connection, a healing is done once or not at all, and known
// to be.
func TestHealInterrupted(t *testing.T) {
	for name, f := range map[string]fault{
		"the script ran": after, "the script did not arrive": before, "half of the script arrived": middle, "the script arrives too late": late,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, opened, partition, k := lossy(t)
			p := startProxy(t, s.redis.Address())
			lossy := s.openWith(redisClient(t, p.url()), opened.Replica())
			seen := map[string]int{}
			p.spoil(func(command string) fault {
				if seen[command]++; seen[command] == 1 {
					return f
				}
				return pass
			})
			if healed := heal(t, lossy, partition, k); healed.Nothing {
				t.Error("there was nothing to do")
			}
			for command := range seen {
				p.deliver(command)
			}
			if h := s.verify(t, partition); len(h.starts) != 1 || !maps.Equal(h.states("app"), healedStates) {
				t.Errorf("%d epochs were begun, the app has %v", len(h.starts), h.states("app"))
			}
		})
	}
}

// TestHealCrashes: an authority that ends at any step of a healing leaves all or nothing of it, and another
// one heals.
func TestHealCrashes(t *testing.T) {
	for _, step := range []struct {
		command string
		fault   fault
	}{{"get", before}, {"xrange", after}, {"hscan", after}, {"eval", before}, {"eval", middle}, {"eval", after}} {
		t.Run(fmt.Sprint(step), func(t *testing.T) {
			t.Parallel()
			s, opened, partition, k := lossy(t)
			p := startProxy(t, s.redis.Address())
			doomed := s.openWith(redisClient(t, p.url()), opened.Replica())
			held := contents(t, s.client)
			ctx, crash := context.WithCancel(t.Context())
			crashed := false
			p.spoil(func(command string) fault {
				if crashed = crashed || command == step.command; !crashed {
					return pass
				}
				crash()
				if command == step.command && step.fault != pass {
					return step.fault
				}
				return before
			})
			if _, err := doomed.Heal(ctx, partition, 0, k.links, k.sticky, k.seen); err == nil {
				t.Error("it was healed")
			}
			p.spoil(nil)
			if step.command != "eval" || step.fault != after {
				wantSame(t, s.client, held)
			}
			heal(t, opened, partition, k)
			if h := s.verify(t, partition); len(h.starts) != 1 || !maps.Equal(h.states("app"), healedStates) {
				t.Errorf("%d epochs were begun, the app has %v", len(h.starts), h.states("app"))
			}
		})
	}
}

// TestHealFullRedis: a Redis that is out of memory can be healed, since that restores revocations (B08).
func TestHealFullRedis(t *testing.T) {
	s, opened, partition, k := lossy(t, "--maxmemory-policy", "noeviction")
	if err := s.client.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	heal(t, opened, partition, k)
	if h := s.verify(t, partition); !maps.Equal(h.states("app"), healedStates) {
		t.Errorf("the app has %v", h.states("app"))
	}
}

// TestHealRefused: what cannot be proven, or written whole, is not written at all.
func TestHealRefused(t *testing.T) {
	s, opened, partition, k := lossy(t)
	names := record.KeysOf(partition)
	d := damaged{system: s, t: t}
	account := func(rules string) *store.Store {
		t.Helper()
		if err := s.client.Do(t.Context(), append([]any{"ACL", "SETUSER", "authority", "reset", "on", ">password"}, fields(rules)...)...).Err(); err != nil {
			t.Fatal(err)
		}
		return s.openWith(redisClient(t, redistest.URL(s.redis.Address(), "authority", "password")), opened.Replica())
	}
	const all = "~cs:* &cs:* +@all "
	for _, tt := range []struct {
		name   string
		spoil  func() *store.Store
		change func(*known)
		want   string
	}{
		{name: "a link is missing", change: func(k *known) { k.links = k.links[:2] }, want: "epoch 1, revisions 3 to 3 have been seen"},
		{name: "nobody has the links", change: func(k *known) { k.links = nil }, want: "epoch 1, revisions 2 to 3 have been seen"},
		{name: "a document is damaged", spoil: func() *store.Store { d.do("HSET", names.Policies, "app", garbage); return opened }, want: "do not add up"},
		{name: "a document is missing", spoil: func() *store.Store { d.do("DEL", names.Policies); return opened }, want: "do not add up"},
		{name: "the head is damaged", spoil: func() *store.Store { d.do("SET", names.Head, garbage); return opened }, want: "head"},
		{name: "the head is gone and the rest is not", spoil: func() *store.Store { d.do("DEL", names.Head); return s.withMeta(opened) }, want: "NOT_EMPTY"},
		{name: "the log is ahead of the head", spoil: func() *store.Store { d.do("XADD", names.Log, "99-0", "l", "x"); return opened }, want: "AHEAD_OF_HEAD"},
		{name: "the audit trail is ahead of the head", spoil: func() *store.Store { d.do("XADD", names.Audit, "99-0", "e", "x"); return opened }, want: "AHEAD_OF_HEAD"},
		{name: "the audit trail is of another type", spoil: func() *store.Store { d.replace(names.Audit, "SET", names.Audit, "x"); return opened }, want: "WRONG_TYPE"},
		{name: "the account may not write the log", spoil: func() *store.Store { return account(all + "-xadd") }, want: "NO_PERMISSION"},
		{name: "the account may not write documents", spoil: func() *store.Store { return account(all + "-hset") }, want: "NO_PERMISSION"},
		{name: "the account may not write heads", spoil: func() *store.Store { return account(all + "-set") }, want: "NO_PERMISSION"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			defer s.save(partition)()
			healer, with := opened, k
			if tt.spoil != nil {
				healer = tt.spoil()
			}
			if tt.change != nil {
				tt.change(&with)
			}
			held := contents(t, s.client)
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			_, err := healer.Heal(ctx, partition, 0, with.links, with.sticky, with.seen)
			if err == nil || !strings.Contains(err.Error(), tt.want) || errors.Is(err, store.ErrIncomplete) != (tt.change != nil) {
				t.Errorf("got %v, want something about %q", err, tt.want)
			}
			wantSame(t, s.client, held)
		})
	}
	heal(t, opened, partition, k)
	s.verify(t, partition)
}

// withMeta is a store over the same replica that can heal a wiped Redis.
func (s *system) withMeta(opened *store.Store) *store.Store {
	s.t.Helper()
	options := store.Options{Meta: check.Must(record.SealMeta(s.ring, s.meta))(s.t)}
	return store.New(store.Over(s.client, partitions, options), opened.Replica(), options, quiet)
}

// TestHealWipedRedis: a Redis that lost everything is the same store again, made from links alone, meta
// included. An authority that has no meta to put back does not begin.
func TestHealWipedRedis(t *testing.T) {
	s := newSystem(t)
	opened := s.open(s.redis.URL())
	for i := range 40 {
		update(t, opened, call(fmt.Sprint("app-", i%7), "made", add(fmt.Sprint("tok-", i))))
	}
	update(t, opened, call("app-1", "revoked", revoke))
	if err := opened.Replica().Confirm(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := make([]history, partitions)
	known := make([]known, partitions)
	for partition := range partitions {
		before[partition], known[partition] = s.verify(t, partition), knownBy(opened, partition)
	}
	if err := s.client.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := opened.Heal(t.Context(), 0, 0, known[0].links, nil, known[0].seen); err == nil {
		t.Error("healed without the store's meta")
	}
	wantSame(t, s.client, map[string]string{})

	healer := s.withMeta(opened)
	for partition := range partitions {
		heal(t, healer, partition, known[partition])
	}
	if meta, err := s.client.Meta(t.Context(), s.ring); err != nil || meta.StoreID != s.meta.StoreID || meta.Partitions != partitions {
		t.Errorf("the meta is %+v, %v", meta, err)
	}
	late := s.open(s.redis.URL())
	for partition := range partitions {
		h := s.verify(t, partition)
		if len(h.documents) != len(before[partition].documents) || h.head.Epoch != 2 {
			t.Errorf("partition %d has %d apps, had %d", partition, len(h.documents), len(before[partition].documents))
		}
		for app := range before[partition].documents {
			if !slices.Equal(h.documents[app].Tokens, before[partition].documents[app].Tokens) {
				t.Errorf("%s has %+v, had %+v", app, h.documents[app].Tokens, before[partition].documents[app].Tokens)
			}
			update(t, late, call(app, "made", add("late")))
			update(t, opened, call(app, "changed", note("noted")))
		}
		s.verify(t, partition)
	}
}

// TestB30_RestartedFleetHealsAWipedStore: an operator began an epoch far above the revisions of the one
// before, and every process was restarted since. They hold what lies before that epoch all the same, so
// that a wiped store is made again from its first change on.
func TestB30_RestartedFleetHealsAWipedStore(t *testing.T) {
	s := newSystem(t)
	running := s.open(s.redis.URL())
	partition := s.codec.PartitionOf("app")
	update(t, running, call("app", "made", add("tok-1")))
	update(t, running, call("app", "made", add("tok-2")))
	update(t, running, call("app", "revoked", revoke))
	above := running.Replica().Cursors()[partition]
	above.Revision += 1_000_000_000
	if _, err := running.Adopt(t.Context(), partition, []record.Cursor{above}, countersignv1.EpochCause_EPOCH_CAUSE_RESTORED); err != nil {
		t.Fatal(err)
	}
	s.check(running.Replica().Confirm(t.Context()))
	heal(t, running, partition, knownBy(running, partition))
	update(t, running, call("app", "made", add("tok-3")))
	before := s.verify(t, partition).documents["app"]

	restarted := s.open(s.redis.URL())
	entries := s.client.XLen(t.Context(), record.KeysOf(partition).Log).Val()
	for began := time.Now(); int64(len(restarted.Replica().Links(partition))) < entries; time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > patience {
			t.Fatalf("of %d entries of the log %d are held", entries, len(restarted.Replica().Links(partition)))
		}
	}
	known := knownBy(restarted, partition)
	s.check(s.client.FlushAll(t.Context()).Err())
	heal(t, s.withMeta(restarted), partition, known)
	if after := s.verify(t, partition).documents["app"]; after == nil || !slices.Equal(after.Tokens, before.Tokens) {
		t.Errorf("the app is %+v, was %+v", after, before)
	}
}

// TestAdopt: an operator takes a partition as it is. Who has seen more follows all the same, and changes go
// on; what was revoked stays so.
func TestAdopt(t *testing.T) {
	s, opened, partition, k := lossy(t)
	start, err := opened.Adopt(t.Context(), partition, k.seen, countersignv1.EpochCause_EPOCH_CAUSE_ADOPTED)
	if err != nil {
		t.Fatal(err)
	}
	h := s.verify(t, partition)
	row := h.events[len(h.events)-1]
	if start != h.head.Cursor || start.Revision <= k.seen[0].Revision || h.starts[0].Cause != countersignv1.EpochCause_EPOCH_CAUSE_ADOPTED || row.GetMethod() != "Adopt" {
		t.Errorf("begun at %s, the head is at %s, audited as %v", start, h.head.Cursor, row)
	}
	if err := opened.Replica().Reach(t.Context(), partition, start); err != nil {
		t.Fatal(err)
	}
	// The links that were there after all are healed, in an epoch of their own.
	healed := heal(t, opened, partition, knownBy(opened, partition))
	if h := s.verify(t, partition); healed.Nothing || !maps.Equal(h.states("app"), healedStates) {
		t.Errorf("got %+v, the app has %v", healed, h.states("app"))
	}
	update(t, opened, call("app", "made", add("tok-3")))
	if _, err := opened.Adopt(t.Context(), partition, []record.Cursor{{Epoch: 1, Revision: 1 << 60}}, countersignv1.EpochCause_EPOCH_CAUSE_ADOPTED); err == nil {
		t.Error("a revision that a script cannot count was exceeded")
	}
	s.verify(t, partition)
}

// TestB30_NoChangeIsMadeBeforeAnOperatorsEpochIsHealed, by whichever authority, whether it knew of what was
// lost or not. It is healed also when nothing was lost, but not by an epoch that only settles changes
// again.
func TestB30_NoChangeIsMadeBeforeAnOperatorsEpochIsHealed(t *testing.T) {
	for _, cause := range []countersignv1.EpochCause{countersignv1.EpochCause_EPOCH_CAUSE_ADOPTED, countersignv1.EpochCause_EPOCH_CAUSE_RESTORED} {
		s, opened, partition, k := lossy(t)
		if _, err := opened.Adopt(t.Context(), partition, k.seen, cause); err != nil {
			t.Fatal(err)
		}
		late := s.open(s.redis.URL())
		refused := func(when string) {
			t.Helper()
			for _, authority := range []*store.Store{opened, late} {
				held := contents(t, s.client)
				if _, err := authority.Update(t.Context(), call("app", "made", add("tok-3"))); apierr.ReasonOf(err) != apierr.StoreUnhealed {
					t.Errorf("%s: %v", when, err)
				}
				wantSame(t, s.client, held)
			}
		}
		refused("before it is healed")
		if err := opened.Settle(t.Context(), partition, []record.Tag{{1}}); err != nil {
			t.Fatal(err)
		}
		refused("after changes were settled again")
		heal(t, late, partition, k)
		for _, authority := range []*store.Store{opened, late} {
			update(t, authority, call("app", "made", add(fmt.Sprint("tok-", 3+len(s.verify(t, partition).links)))))
		}
		if h := s.verify(t, partition); h.states("app")["tok"] != policy.Revoked || len(h.documents["app"].Tokens) != 4 {
			t.Errorf("the app has %v", h.states("app"))
		}

		// Nothing is lost now.
		if _, err := opened.Adopt(t.Context(), partition, nil, cause); err != nil {
			t.Fatal(err)
		}
		refused("though nothing was lost")
		if healed := heal(t, late, partition, known{}); healed.Nothing || healed.Lost > 0 {
			t.Errorf("%+v", healed)
		}
		update(t, late, call("app", "made", add("last")))
	}
}

// TestSettleNothing: to say again that changes are dealt with never makes a partition of nothing.
func TestSettleNothing(t *testing.T) {
	s, opened, partition, _ := lossy(t)
	if err := s.client.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if err := s.withMeta(opened).Settle(t.Context(), partition, []record.Tag{{1}}); apierr.ReasonOf(err) != apierr.StoreForked {
		t.Error(err)
	}
	wantSame(t, s.client, map[string]string{})
}

// TestAdoptNothing: an operator may take a wiped partition as it is, too: empty.
func TestAdoptNothing(t *testing.T) {
	s, opened, partition, k := lossy(t)
	if err := s.client.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	start, err := s.withMeta(opened).Adopt(t.Context(), partition, k.seen, countersignv1.EpochCause_EPOCH_CAUSE_ADOPTED)
	if err != nil {
		t.Fatal(err)
	}
	if h := s.verify(t, partition); h.head.Cursor != start || start.Epoch != 2 || start.Revision <= k.seen[0].Revision || len(h.documents) != 0 {
		t.Errorf("begun at %s, the head is %+v", start, h.head)
	}
}

// TestFreeze: while a partition is frozen its changes are refused and everything else goes on.
func TestFreeze(t *testing.T) {
	s := newSystem(t)
	opened := s.open(s.redis.URL())
	partition := s.codec.PartitionOf("app")
	update(t, opened, call("app", "made", add("tok")))
	opened.Freeze(partition, true)
	held := contents(t, s.client)
	started := time.Now()
	_, err := opened.Update(t.Context(), call("app", "refused", add("tok-2")))
	wantUnavailable(t, err, apierr.StoreForked)
	check.Within(t, "refusing a change", time.Since(started), time.Second)
	if _, _, err := opened.Read(t.Context(), "app"); err != nil {
		t.Errorf("it cannot be read: %v", err)
	}
	wantSame(t, s.client, held)
	for other := range partitions {
		if other != partition {
			update(t, opened, call(s.appIn(other), "elsewhere", add("tok")))
		}
	}
	opened.Freeze(partition, false)
	update(t, opened, call("app", "made", add("tok-2")))
}

// TestSettledAcrossEpochs: a commit whose reply was lost, in a store that failed over or began a new epoch
// before it was sent again, is made once, or its outcome is said to be unknown.
func TestSettledAcrossEpochs(t *testing.T) {
	for _, tt := range []struct {
		name string
		// then is what happens between the first sending, which was carried out, and the second.
		then   func(s *system, other *store.Store, partition int, lose func(), link []byte)
		reason string
		epoch  uint64
	}{
		{name: "a failover lost it: it is made again", epoch: 1, then: func(_ *system, _ *store.Store, _ int, lose func(), _ []byte) { lose() }},
		{name: "an epoch began behind it: it was made", epoch: 1, then: func(s *system, other *store.Store, partition int, _ func(), _ []byte) {
			_, err := other.Adopt(context.Background(), partition, nil, countersignv1.EpochCause_EPOCH_CAUSE_ADOPTED)
			s.check(err)
			_, err = other.Heal(context.Background(), partition, 2, nil, nil, nil)
			s.check(err)
		}},
		{name: "a failover lost it and an epoch began without it: it is made anew", epoch: 3, then: func(s *system, other *store.Store, partition int, lose func(), _ []byte) {
			lose()
			_, err := other.Adopt(context.Background(), partition, nil, countersignv1.EpochCause_EPOCH_CAUSE_ADOPTED)
			s.check(err)
			_, err = other.Heal(context.Background(), partition, 2, nil, nil, nil)
			s.check(err)
		}},
		{name: "a failover lost it and it was healed: nobody knows how much of it", reason: apierr.OutcomeUnknown, then: func(s *system, other *store.Store, partition int, lose func(), link []byte) {
			lose()
			_, err := other.Heal(context.Background(), partition, 0, [][]byte{link}, nil, nil)
			s.check(err)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newSystem(t)
			// The authority's replica has a line of its own, and follows whatever happens.
			p := startProxy(t, s.redis.Address())
			lossy := s.openWith(redisClient(t, p.url()), s.replica(redisClient(t, s.redis.URL())))
			other := s.openWith(s.client, lossy.Replica())
			partition, names := s.codec.PartitionOf("app"), s.keysOf("app")
			update(t, lossy, call("app", "made", add("tok")))
			lose := s.save(partition)
			p.spoil(once("eval", after, func() {
				last := check.Must(s.client.XRevRangeN(context.Background(), names.Log, "+", "-", 1).Result())(t)
				tt.then(s, other, partition, lose, []byte(last[0].Values["l"].(string)))
			}))
			result, err := lossy.Update(t.Context(), call("app", "made", add("tok-2")))
			if tt.reason != "" {
				wantUnavailable(t, err, tt.reason)
			} else if err != nil || result.Position.Epoch != tt.epoch {
				t.Errorf("made at %s, %v, want in epoch %d", result.Position.Cursor, err, tt.epoch)
			}
			if h := s.verify(t, partition); len(h.documents["app"].Tokens) != 2 {
				t.Errorf("the app has %v", h.states("app"))
			}
		})
	}
}

// check fails the test from another goroutine.
func (s *system) check(err error) {
	if err != nil {
		s.t.Error(err)
	}
}
