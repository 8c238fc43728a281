package store

import (
	"fmt"
	"testing"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
)

// TestHealStray: the changes before a supplied change are not supplied, so the document that it was made from
// is unknown. The healing takes over everything that the change contains: its new token and its revocations
// (B30).
func TestHealStray(t *testing.T) {
	s := newStory(t)
	s.change("app", create("a"))
	lost := s.fork()
	lost.change("app", create("b"))
	lost.change("app", create("c"), revoked("b"), revoked("a"))
	s.adopt()
	if _, err := s.heal(lost.held()[2:], nil, nil); err != nil {
		t.Fatal(err)
	}
	s.want(t, "app", tokens{"a": gone, "b": gone, "c": active})
}

// TestHealStrayTwice: a lost epoch had settled a change whose predecessor is not supplied. The epoch is
// brought back all the same.
func TestHealStrayTwice(t *testing.T) {
	s := newStory(t)
	s.change("app", create("a"))
	lost, early := s.fork(), s.fork()
	lost.change("app", create("b"))
	lost.change("app", create("c"), revoked("b"))
	s.adopt()
	stray := lost.held()[2:]
	if _, err := s.heal(stray, nil, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := early.heal(append(s.held(), stray...), nil, []record.Cursor{s.head.Cursor, lost.head.Cursor}); err != nil {
		t.Fatal(err)
	}
	early.want(t, "app", tokens{"a": active, "b": gone, "c": active})
}

// TestHealForkAtTheEndOfTheLog: the lost change follows a change that was trimmed from the log. The first
// entry of the log names that change, so it counts as known.
func TestHealForkAtTheEndOfTheLog(t *testing.T) {
	s := newStory(t)
	s.change("app", create("a"))
	lost := s.fork()
	lost.change("app", revoked("a"))
	s.change("app", create("b"))
	s.change("app", create("c"))
	s.log = s.log[2:]
	if _, err := s.heal(lost.held(), nil, []record.Cursor{lost.head.Cursor}); err != nil {
		t.Fatal(err)
	}
	s.want(t, "app", tokens{"a": gone, "b": active, "c": active})
}

// TestHealLineages: each lineage is merged with the lineages before it, from the change after which they
// differ (B30).
func TestHealLineages(t *testing.T) {
	s := newStory(t)
	s.change("app", create("a"))
	s.change("two", create("t"))
	further := s.fork()
	further.change("app", create("b"))
	other := further.fork()
	further.change("app", create("c"))
	further.change("app", renamed("c", "x"))
	further.change("app", renamed("c", "y"))
	other.change("app", create("d"), revoked("b"))
	other.change("two", create("u"))
	if _, err := s.heal(append(other.held(), further.held()...), nil,
		[]record.Cursor{further.head.Cursor, other.head.Cursor}); err != nil {
		t.Fatal(err)
	}
	s.want(t, "app", tokens{"a": active, "b": gone, "c": active, "d": active})
	if c := s.documents["app"].Tokens[2]; c.Name != "y" {
		t.Errorf("got %+v", c)
	}
	s.want(t, "two", tokens{"t": active, "u": active})
}

// TestHealTwice: a failover loses a healing and the changes after it, and possibly older changes. The next
// healing brings all of them back.
func TestHealTwice(t *testing.T) {
	s := newStory(t)
	s.change("app", create("a"))
	early := s.fork()
	s.change("app", create("b"))
	lost := s.fork()
	lost.change("app", create("c"))
	lost.change("app", renamed("a", "x"))
	late := s.fork()
	s.mustHeal(lost)
	s.change("app", create("d"), revoked("b"))
	for _, tt := range []struct {
		name  string
		store *story
		held  []record.Entry
	}{
		{"a failover loses the healing", late, nil},
		{"a failover loses the healing and an older change", early, nil},
		{"a failover loses the healing, and the original changes are supplied", late, lost.held()},
		{"a failover loses more than the healing, and the original changes are supplied", early, lost.held()},
		{"a failover loses more than the healing, and a part of the original changes is supplied", early, lost.held()[3:]},
	} {
		t.Run(tt.name, func(t *testing.T) {
			store, held := tt.store.fork(), tt.held
			// Processes that saw the first loss may have dropped its entries since.
			if _, err := store.heal(append(s.held(), held...), nil, []record.Cursor{s.head.Cursor, lost.head.Cursor}); err != nil {
				t.Fatal(err)
			}
			store.want(t, "app", tokens{"a": active, "b": gone, "c": active, "d": active})
			if d := store.documents["app"]; d.Tokens[0].Name != "x" {
				t.Errorf("got %+v", d.Tokens[0])
			}
		})
	}
}

// TestB30_WhatAPastHasDealtWithIsNotTheOthers: an old backup is restored, and the fleet brings back what it
// lacks. Then a later backup is restored, which has some of these changes. Both histories hold copies of one
// change, so neither has changed it alone. The changes after it count, nothing is given up, and it does not
// matter how much of the log the later backup has.
func TestB30_WhatAPastHasDealtWithIsNotTheOthers(t *testing.T) {
	scopes := func(s policy.ScopeSet) func(*record.Document) {
		return func(d *record.Document) { d.Tokens[0].Scopes = s }
	}
	s := newStory(t)
	s.change("app", create("a"), scopes(4))
	backup := s.fork()
	s.change("app", scopes(6), enforced(1))
	later := s.fork()
	s.change("app", create("b"))

	backup.adopt()
	backup.mustHeal(s)
	backup.change("app", scopes(10), enforced())
	later.adopt()
	for name, held := range map[string][]record.Entry{
		"the fleet holds both histories":          append(s.held(), backup.held()...),
		"the fleet holds only the latest history": backup.held(),
	} {
		for trimmed := range len(later.log) + 1 {
			t.Run(fmt.Sprintf("%s, %d entries were trimmed from the log", name, trimmed), func(t *testing.T) {
				restored := later.fork()
				restored.log = restored.log[trimmed:]
				if _, err := restored.heal(held, nil, []record.Cursor{backup.head.Cursor}); err != nil {
					t.Fatal(err)
				}
				restored.want(t, "app", tokens{"a": active, "b": active})
				if d := restored.documents["app"]; d.Tokens[0].Scopes != 10 || d.Enforcement.Scopes != 0 {
					t.Errorf("got %+v, %+v", d.Tokens[0], d.Enforcement)
				}
			})
		}
	}
}
