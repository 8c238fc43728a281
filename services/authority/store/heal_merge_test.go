package store

import (
	"testing"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
)

// TestB30_APartOfAnAppIsNoApp: the store has no document of an app, and of the app's changes only the latest is supplied. The app
// stays missing, and is named: a document of its latest token alone would deny all others.
func TestB30_APartOfAnAppIsNoApp(t *testing.T) {
	s := newStory(t)
	s.change("other", create("o"))
	early := s.fork()
	s.change("app", create("a"), create("b"), enforced(1))
	s.change("other", renamed("o", "x"))
	s.change("app", create("c"))
	for name, tt := range map[string]struct {
		held []entry
		want tokens
	}{
		"the latest alone": {held: s.held()[3:]},
		"all":              {held: s.held(), want: tokens{"a": active, "b": active, "c": active}},
	} {
		t.Run(name, func(t *testing.T) {
			store := early.fork()
			store.adopt()
			store.head.Unhealed = true
			healed, err := store.heal(tt.held, nil, []record.Cursor{s.head.Cursor})
			if err != nil {
				t.Fatal(err)
			}
			store.want(t, "app", tt.want)
			if named := len(healed.Conflicts["app"]) > 0; named != (tt.want == nil) {
				t.Errorf("given up: %v", healed.Conflicts)
			}
			if again, err := store.heal(tt.held, nil, []record.Cursor{s.head.Cursor}); err != nil || !again.Nothing {
				t.Errorf("the second time: %+v, %v", again, err)
			}
		})
	}
}

// TestB30_APartOfAnAppJoinsTheRestOfIt: what continues a past that nobody supplied is merged with what another one brings of the
// app, whichever of them goes further.
func TestB30_APartOfAnAppJoinsTheRestOfIt(t *testing.T) {
	s := newStory(t)
	early := s.fork()
	s.change("other", create("o"))
	s.change("app", create("a"), create("b"))
	part := s.fork()
	part.adopt()
	part.change("app", revoked("a"))
	part.change("app", create("c"))
	early.take(epoch{top: record.Cursor{Epoch: 4, Revision: 9}, sum: early.sum, whole: true})
	if _, err := early.heal(append(s.held()[1:], part.held()[3:]...), nil, nil); err != nil {
		t.Fatal(err)
	}
	early.want(t, "app", tokens{"a": gone, "b": active, "c": active})
}

// TestB30_AStrayBringsOnlySettingsThatItChanged: nobody knows what a change was made from. It says which settings the app had, and that
// it left them as they were, so it says nothing against what the store has of them.
func TestB30_AStrayBringsOnlySettingsThatItChanged(t *testing.T) {
	s := newStory(t)
	s.change("app", create("a"), enforced(1))
	lost := s.fork()
	lost.change("other", create("o"))
	lost.change("app", renamed("a", "x"))
	changed := lost.fork()
	changed.change("app", enforced(2))
	s.adopt()
	s.change("app", enforced())
	for name, tt := range map[string]struct {
		held []entry
		want policy.ScopeSet
	}{
		"it left them":    {held: lost.held()[2:]},
		"it changed them": {held: changed.held()[2:], want: policy.ScopesOf(2)},
	} {
		t.Run(name, func(t *testing.T) {
			store := s.fork()
			if _, err := store.heal(tt.held, nil, nil); err != nil {
				t.Fatal(err)
			}
			if got := store.documents["app"].Enforcement.Scopes; got != tt.want {
				t.Errorf("%b is enforced, want %b", got, tt.want)
			}
		})
	}
}
