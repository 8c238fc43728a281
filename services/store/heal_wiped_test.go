package store

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// TestHealWiped: a wiped partition is healed only when all changes since its first one are supplied.
func TestHealWiped(t *testing.T) {
	old := newStory(t)
	old.change("app", create("a"))
	old.change("app", create("b"), revoked("a"))
	old.change("two", create("c"), enforced(1))
	first := newStory(t).head.Cursor
	wiped := newKnown(nil)
	for _, tt := range []struct {
		name    string
		entries []record.Entry
		seen    []record.Cursor
		missing string
		lost    int
	}{
		{name: "all entries are supplied", entries: old.held(), seen: []record.Cursor{old.head.Cursor}, lost: 3},
		{name: "no cursor was reported", entries: old.held(), lost: 3},
		{name: "no change had been made", seen: []record.Cursor{first}},
		{
			name: "the first change is not supplied", entries: old.held()[1:], seen: []record.Cursor{old.head.Cursor},
			missing: "of epoch 1, revisions 1 to 1",
		},
		{
			name: "the last change is not supplied", entries: old.held()[:2], seen: []record.Cursor{old.head.Cursor},
			missing: "of epoch 1, revisions 3 to 3",
		},
		{name: "no entry and no cursor is supplied", missing: "nobody knows what it held"},
		{name: "only zero cursors are reported", seen: []record.Cursor{{}, {}}, missing: "nobody knows what it held"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lost, err := wiped.search(0, tt.entries, tt.seen)
			if tt.missing != "" {
				if !errors.Is(err, ErrIncomplete) || !strings.Contains(err.Error(), tt.missing) {
					t.Fatalf("got %v, want ErrIncomplete with %q", err, tt.missing)
				}
				return
			}
			if err != nil || len(lost.tags()) != tt.lost || lost.top.Epoch != 2 || lost.top.Revision != uint64(tt.lost+1) {
				t.Fatalf("got %+v, %v", lost, err)
			}
			changes := lost.merge(nil, nil, 1000)
			if tt.lost > 0 && len(changes) != 2 {
				t.Fatalf("got %+v", changes)
			}
			for _, c := range changes {
				want := old.documents[c.after.AppID]
				if c.before != nil || !slices.Equal(c.after.Tokens, want.Tokens) || c.after.Enforcement != want.Enforcement {
					t.Errorf("got %+v, want %+v", c.after, want)
				}
			}
		})
	}
}

// TestHealAdoptedOnNothing: a wiped store was adopted. A deposed master with the old data was adopted too, in
// an epoch that is not older. Replicas that followed the deposed master hold its whole history, so nothing is
// missing.
func TestHealAdoptedOnNothing(t *testing.T) {
	s := newStory(t)
	s.change("app", create("a"))
	s.change("app", create("b"), revoked("a"))
	deposed := s.fork()
	deposed.adopt()
	adopted := newStory(t)
	adopted.store, adopted.clock = s.store, s.clock
	adopted.begin(origin{}, epoch{
		top:   record.Cursor{Epoch: 2, Revision: 3},
		cause: countersignv1.EpochCause_EPOCH_CAUSE_ADOPTED,
	})
	if _, err := adopted.heal(deposed.held(), nil, []record.Cursor{deposed.head.Cursor, adopted.head.Cursor}); err != nil {
		t.Fatal(err)
	}
	adopted.want(t, "app", tokens{"a": gone, "b": active})
}

// TestHealWipedAfterAnOlderBackup: a store was wiped and healed. An old backup with a trimmed log was
// restored, and the store was wiped again before it was healed. The fleet lacks the backup's first changes,
// but the first healing has settled them.
func TestHealWipedAfterAnOlderBackup(t *testing.T) {
	s := newStory(t)
	s.change("app", create("a"))
	s.change("app", create("b"))
	backup := s.fork()
	s.change("app", revoked("a"))
	wiped := s.wiped()
	wiped.change("app", create("c"))
	backup.log = backup.log[1:]
	backup.adopt()
	backup.adopt() // in an epoch above that of the first healing
	held := append(backup.held()[1:], wiped.held()...)
	past := newKnown(nil)
	lost, err := past.search(0, held, []record.Cursor{backup.head.Cursor, wiped.head.Cursor})
	if err != nil {
		t.Fatal(err)
	}
	changes := lost.merge(nil, nil, 1000)
	if len(changes) != 1 {
		t.Fatalf("got %+v", changes)
	}
	states := map[string]policy.State{}
	for _, token := range changes[0].after.Tokens {
		states[token.ID] = token.State
	}
	if want := (tokens{"a": gone, "b": active, "c": active}); !maps.Equal(states, want) {
		t.Errorf("got %v, want %v", states, want)
	}
}

// TestHealWipedAndRolledBack: a wiped partition was healed. Then the store goes back to a state from before
// the wipe. The healing had everything that this state has, so the changes after the healing count. One of
// them switched enforcement off.
func TestHealWipedAndRolledBack(t *testing.T) {
	s := newStory(t)
	s.change("app", create("a"), enforced(1))
	early := s.fork()
	s.change("app", create("b"), revoked("a"))
	wiped := s.wiped()
	wiped.change("app", enforced())
	held := slices.DeleteFunc(wiped.held(), func(e record.Entry) bool { return e.Epoch == 1 })
	if _, err := early.heal(held, nil, []record.Cursor{wiped.head.Cursor}); err != nil {
		t.Fatal(err)
	}
	early.want(t, "app", tokens{"a": gone, "b": active})
	if got := early.documents["app"].Enforcement.Scopes; got != 0 {
		t.Errorf("%b is enforced", got)
	}
}

// TestB08_ForkFromBeforeAWipeIsHealed: a failover lost changes that only one replica holds. The store made
// other changes with these revisions, and was wiped and healed from the other replicas. The log begins at a
// higher revision, and the changes still count as lost.
func TestB08_ForkFromBeforeAWipeIsHealed(t *testing.T) {
	s := newStory(t)
	s.change("app", create("a"), create("b"))
	away := s.fork()
	away.change("app", with("a", func(t *record.Token) { t.State = policy.Disabled }))
	away.change("app", enforced(1))
	for range 4 {
		s.change("app", renamed("b", "another name"))
	}
	wiped := s.wiped()
	wiped.change("two", create("c"))
	if _, err := wiped.heal(away.held()[1:], nil, []record.Cursor{away.head.Cursor}); err != nil {
		t.Fatal(err)
	}
	wiped.want(t, "app", tokens{"a": policy.Disabled, "b": active})
	if got := wiped.documents["app"].Enforcement.Scopes; got != policy.ScopesOf(1) {
		t.Errorf("%b is enforced", got)
	}
}
