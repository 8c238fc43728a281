package store_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/testkit/check"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/store"
)

// save keeps a copy of a partition's keys in Redis. The returned function restores the copy. This simulates a
// failover that loses all later changes.
func (s *system) save(partition int) (lose func()) {
	s.t.Helper()
	ctx := context.Background()
	names := record.KeysOf(partition)
	saved := map[string]string{}
	for _, key := range []string{names.Head, names.Policies, names.Log, names.Audit} {
		saved[key] = s.client.Dump(ctx, key).Val() // empty for a missing key
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

// lossy returns a store whose partition has lost two changes of "app": the creation of a second token, and
// the revocation of the first token. The authority opened has seen both changes. An authority that a test
// opens later has not.
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

// TestHeal: a healing brings lost changes back in a new epoch, with audit rows. Afterwards authorities commit
// changes, whether or not they had seen the lost ones.
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
	if healed.Nothing || healed.Lost != 2 || !slices.Equal(healed.Apps, []string{"app"}) || healed.End != h.head.Cursor ||
		healed.Start != h.starts[0].Cursor {
		t.Errorf("got %+v with the head at %s, want 2 lost changes of app that end at the head", healed, h.head.Cursor)
	}
	if got := h.states("app"); !maps.Equal(got, healedStates) {
		t.Errorf("got tokens %v, want %v", got, healedStates)
	}
	row := h.events[len(h.events)-1]
	if row.GetMethod() != "Heal" || row.GetIdentity() != "countersign" ||
		h.starts[0].Cause != countersignv1.EpochCause_EPOCH_CAUSE_HEALED {
		t.Errorf("audited as %v", row)
	}
	if again := heal(t, opened, partition, k); !again.Nothing {
		t.Errorf("the second healing: got %+v, want nothing to do", again)
	}
	update(t, opened, call("app", "made", add("tok-3")))
	late := s.open(s.redis.URL())
	update(t, late, call("app", "made", add("tok-4")))
	update(t, opened, call("app", "changed", note("noted")))
	if h := s.verify(t, partition); len(h.links) != 5 || opened.Replica().Forked(partition) ||
		len(opened.Replica().Orphans(partition)) > 0 {
		t.Errorf("got %d changes and %d orphans, want 5 and none", len(h.links),
			len(opened.Replica().Orphans(partition)))
	}
}

// TestHealNamesWhatIsGivenUp: a process has seen a change of an earlier epoch, and none supplies it. The
// healing names it, whether or not there is something else to heal.
func TestHealNamesWhatIsGivenUp(t *testing.T) {
	s, opened, partition, k := lossy(t)
	heal(t, opened, partition, k)
	unknown := record.Cursor{Epoch: 1, Revision: 1000, Tag: record.NewTag()}
	nothing := heal(t, opened, partition, known{seen: []record.Cursor{unknown}})
	if !nothing.Nothing || !slices.Equal(nothing.GivenUp, []record.Cursor{unknown}) {
		t.Errorf("with nothing to heal: got %+v, want %v given up", nothing, unknown)
	}
	lose := s.save(partition)
	update(t, opened, call("app", "made", add("tok-3")))
	s.check(opened.Replica().Confirm(t.Context()))
	again := knownBy(opened, partition)
	lose()
	again.seen = append(again.seen, unknown)
	if healed := heal(t, opened, partition, again); healed.Lost != 1 ||
		!slices.Equal(healed.GivenUp, []record.Cursor{unknown}) {
		t.Errorf("with a lost change: got %+v, want 1 lost and %v given up", healed, unknown)
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
		t.Errorf("got the request id %q, want the one that Options.Audit sets", got)
	}
}

// TestB23_HealedChangesKeepTheirAuthors: the audit row of a healing has the authors and times of the lost
// changes, and the values that were given up (B30). The link of the healing has the authors too, because a
// later failover may lose the healing.
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
				t.Errorf("got %v, want an epoch, a revision and a time", c)
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
	if given := h.events[len(h.events)-1].GetGivenUp(); len(given) != 1 || given[0].GetField() != "note" ||
		given[0].GetTokenId() != "tok" ||
		len(healed.Conflicts["app"]) != 1 || !slices.Equal(healed.Apps, []string{"app"}) {
		t.Errorf("got given up %v, %+v, want the note of tok in app", given, healed)
	}
	if link := h.links[len(h.links)-1]; !slices.Equal(link.Authors, []string{"bob", "eve"}) || !link.SettingsKept {
		t.Errorf("got the link %+v, want the authors bob and eve, and the settings kept", link)
	}
}

// TestB30_AFailoverThatBothSidesWentOnFrom: a failover lost an enforcement and a token, and then the store
// accepted a note. After the healing the app has all three, and nothing was given up.
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
	if len(d.Tokens) != 2 || d.Tokens[0].Note != "noted" || d.Enforcement.Scopes != policy.ScopesOf(1) ||
		len(healed.Conflicts) > 0 {
		t.Errorf("got %+v, given up %+v, want both tokens, the note, the enforcement, and nothing given up", d, healed.Conflicts)
	}
}

// check fails the test from another goroutine.
func (s *system) check(err error) {
	if err != nil {
		s.t.Error(err)
	}
}
