package store_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	"github.com/countersign/countersign/services/store"
)

// TestHealersAtOnce: when several authorities heal at once, one does the work and the others find it done.
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
			t.Errorf("round %d: %d authorities healed, %d epochs began, want 1 of each, and all changes", round, did, len(h.starts))
		}
	}
}

// TestHealAmongChanges: one authority, which does not know of the loss, keeps writing while another one
// heals. The store then has all changes of the first one and all lost changes.
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

// TestHealInterrupted: when the connection is cut during a healing, the authority tries again. The healing is
// done exactly once.
func TestHealInterrupted(t *testing.T) {
	for name, f := range map[string]fault{
		"the script ran": after, "the script did not arrive": before, "half of the script arrived": middle,
		"the script arrives too late": late,
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
				t.Error("the healing found nothing to do, want one that restores the lost changes")
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

// TestHealCrashes: an authority that crashes at any step of a healing leaves a complete healing or none, and
// another authority can heal.
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

// TestHealFullRedis: a Redis that is out of memory can be healed, since healing restores revocations (B08).
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

// TestHealRefused: a healing that cannot be proven, or cannot be written completely, writes nothing.
func TestHealRefused(t *testing.T) {
	s, opened, partition, k := lossy(t)
	names := record.KeysOf(partition)
	d := damaged{system: s, t: t}
	account := func(rules string) *store.Store {
		t.Helper()
		if err := s.client.Do(t.Context(), append([]any{"ACL", "SETUSER", "authority", "reset", "on", ">password"},
			fields(rules)...)...).Err(); err != nil {
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
		{
			name: "the last lost link is not supplied", change: func(k *known) { k.links = k.links[:2] },
			want: "epoch 1, revisions 3 to 3 have been seen",
		},
		{name: "no link is supplied", change: func(k *known) { k.links = nil }, want: "epoch 1, revisions 2 to 3 have been seen"},
		{name: "a document is damaged", spoil: func() *store.Store {
			d.do("HSET", names.Policies, "app",
				garbage)
			return opened
		}, want: "do not add up"},
		{
			name: "a document is missing", spoil: func() *store.Store { d.do("DEL", names.Policies); return opened },
			want: "do not add up",
		},
		{
			name: "the head is damaged", spoil: func() *store.Store { d.do("SET", names.Head, garbage); return opened },
			want: "head",
		},
		{name: "only the head is missing", spoil: func() *store.Store {
			d.do("DEL",
				names.Head)
			return s.withMeta(opened)
		}, want: "NOT_EMPTY"},
		{name: "the log is ahead of the head", spoil: func() *store.Store {
			d.do("XADD", names.Log, "99-0", "l",
				"x")
			return opened
		}, want: "AHEAD_OF_HEAD"},
		{name: "the audit trail is ahead of the head", spoil: func() *store.Store {
			d.do("XADD", names.Audit, "99-0", "e",
				"x")
			return opened
		}, want: "AHEAD_OF_HEAD"},
		{name: "the audit trail is of another type", spoil: func() *store.Store {
			d.replace(names.Audit, "SET", names.Audit,
				"x")
			return opened
		}, want: "WRONG_TYPE"},
		{
			name: "the account may not write the log", spoil: func() *store.Store { return account(all + "-xadd") },
			want: "NO_PERMISSION",
		},
		{
			name: "the account may not write documents", spoil: func() *store.Store { return account(all + "-hset") },
			want: "NO_PERMISSION",
		},
		{
			name: "the account may not write heads", spoil: func() *store.Store { return account(all + "-set") },
			want: "NO_PERMISSION",
		},
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
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
			wantSame(t, s.client, held)
		})
	}
	heal(t, opened, partition, k)
	s.verify(t, partition)
}
