package store

import (
	"fmt"
	"slices"
	"testing"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
)

// TestB30_APartOfAnAppIsNoApp: the store has no document of an app, and only the latest of the app's changes
// is supplied. The app stays missing, and the healing reports that. A document with only the latest token
// would deny all other tokens.
func TestB30_APartOfAnAppIsNoApp(t *testing.T) {
	s := newStory(t)
	s.change("other", create("o"))
	early := s.fork()
	s.change("app", create("a"), create("b"), enforced(1))
	s.change("other", renamed("o", "x"))
	s.change("app", create("c"))
	for name, tt := range map[string]struct {
		held []record.Entry
		want tokens
	}{
		"only the latest is supplied": {held: s.held()[3:]},
		"all":                         {held: s.held(), want: tokens{"a": active, "b": active, "c": active}},
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
				t.Errorf("the second healing: got %+v, %v, want nothing to do", again, err)
			}
		})
	}
}

// TestB30_APartOfAnAppJoinsTheRestOfIt: the store lacks an app. One lineage has only later changes of it,
// another lineage has its first change. The two are merged, whichever lineage reaches further.
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

// TestB30_AStrayBringsOnlySettingsThatItChanged: the document that a supplied change was made from is
// unknown. If the change says that it left the settings as they were, the store's settings stay.
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
		held []record.Entry
		want policy.ScopeSet
	}{
		"the change left the settings": {held: lost.held()[2:]},
		"the change set the settings":  {held: changed.held()[2:], want: policy.ScopesOf(2)},
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

// TestB30_AChangeInTwoShapesCountsOnce: a healing brings a lost change back as a copy. Then the healing is
// lost too, or another authority has healed the same loss. The original may be supplied as well. The value
// that the app's owners set after the copy counts.
func TestB30_AChangeInTwoShapesCountsOnce(t *testing.T) {
	disabled := with("a", func(t *record.Token) { t.State = policy.Disabled })
	enabled := with("a", func(t *record.Token) { t.State = policy.Active })
	scopes := func(s policy.ScopeSet) func(*record.Document) {
		return with("a", func(t *record.Token) { t.Scopes = s })
	}
	for _, change := range []struct {
		name        string
		first, then func(*record.Document)
	}{
		{"a state", disabled, enabled},
		{"scopes", scopes(8), scopes(4)},
		{"an enforcement", enforced(1, 2), enforced(1)},
		{"an enforcement that is switched off", enforced(1, 2), enforced()},
	} {
		for name, heal := range map[string]func(base, lost, healed *story) (*story, []record.Entry){
			"a backup is restored": func(base, lost, healed *story) (*story, []record.Entry) {
				base.adopt()
				base.head.Unhealed = true
				return base, append(lost.held(), healed.held()...)
			},
			"a failover loses the healing": func(base, lost, healed *story) (*story, []record.Entry) {
				base.change("app", renamed("b", "x"))
				return base, append(lost.held(), healed.held()...)
			},
			"the original went on": func(base, lost, healed *story) (*story, []record.Entry) {
				lost.change("app", create("c"))
				return base, append(lost.held(), healed.held()...)
			},
			"healed twice": func(base, lost, healed *story) (*story, []record.Entry) {
				base.mustHeal(lost)
				return healed, base.held()
			},
			"healed twice, and both are lost": func(base, lost, healed *story) (*story, []record.Entry) {
				other := base.fork()
				other.mustHeal(lost)
				base.change("app", renamed("b", "x"))
				return base, append(other.held(), healed.held()...)
			},
		} {
			t.Run(change.name+", "+name, func(t *testing.T) {
				s := newStory(t)
				s.change("app", create("a"), create("b"), scopes(14), enforced(3))
				lost := s.fork()
				lost.change("app", change.first)
				base := s.fork()
				s.mustHeal(lost)
				s.change("app", change.then)
				want := *s.documents["app"]
				store, held := heal(base, lost, s)
				healed, err := store.heal(held, nil, []record.Cursor{lost.head.Cursor, s.head.Cursor})
				if err != nil {
					t.Fatal(err)
				}
				got := store.documents["app"]
				if got.Enforcement != want.Enforcement || got.Tokens[0].State != want.Tokens[0].State ||
					got.Tokens[0].Scopes != want.Tokens[0].Scopes {
					t.Errorf("got %+v, %+v, want %+v, %+v; given up %v", got.Tokens[0], got.Enforcement, want.Tokens[0],
						want.Enforcement, healed.Conflicts)
				}
			})
		}
	}
}

// TestB30_WhatFollowsAChangeThatWasHealedIsMadeFromIt: a process supplies a change that was made after an
// original. The other history has the original's copy. So the change counts, unless the other history has
// changed the same value since. Then the two are merged.
func TestB30_WhatFollowsAChangeThatWasHealedIsMadeFromIt(t *testing.T) {
	scopes := func(s policy.ScopeSet) func(*record.Document) {
		return with("a", func(t *record.Token) { t.Scopes = s })
	}
	for name, tt := range map[string]struct {
		since func(*record.Document)
		next  policy.ScopeSet // the scopes that the lost history sets
		want  record.Token
	}{
		"the other history left them":    {renamed("b", "x"), 8, record.Token{Token: policy.Token{Scopes: 8, State: active}}},
		"the other history widened them": {scopes(14), 8, record.Token{Token: policy.Token{Scopes: 8, State: active}}},
		"some scopes are in common":      {scopes(14), 24, record.Token{Token: policy.Token{Scopes: 8, State: active}}},
		"no scope is in common":          {scopes(2), 8, record.Token{Token: policy.Token{Scopes: 2, State: policy.Disabled}}},
	} {
		for where, lose := range map[string]func(early, s *story) (*story, []record.Entry){
			"the store has healed it":         func(_, s *story) (*story, []record.Entry) { return s, nil },
			"the healing is lost":             func(early, s *story) (*story, []record.Entry) { return early, s.held() },
			"the store was wiped, and healed": func(_, s *story) (*story, []record.Entry) { return s.wiped(), s.held() },
		} {
			t.Run(name+", "+where, func(t *testing.T) {
				s := newStory(t)
				s.change("app", create("a"), create("b"), scopes(14))
				early, lost := s.fork(), s.fork()
				lost.change("app", scopes(4))
				s.mustHeal(lost)
				s.change("app", tt.since)
				lost.change("app", scopes(tt.next))
				store, held := lose(early, s)
				if _, err := store.heal(append(held, lost.held()...), nil, []record.Cursor{lost.head.Cursor}); err != nil {
					t.Fatal(err)
				}
				if a := store.documents["app"].Tokens[0]; a.Scopes != tt.want.Scopes || a.State != tt.want.State {
					t.Errorf("got %+v", a)
				}
			})
		}
	}
}

// TestB30_ARestoredBackupThatAHealingOnNothingHasLeft: a wiped store was healed and continued. Then a backup
// from before the wipe was restored. The backup has no changes since the fork, so only the changes of the
// other history count.
func TestB30_ARestoredBackupThatAHealingOnNothingHasLeft(t *testing.T) {
	scopes := func(s policy.ScopeSet) func(*record.Document) {
		return with("a", func(t *record.Token) { t.Scopes = s })
	}
	s := newStory(t)
	s.change("app", create("a"), scopes(4))
	backup := s.fork()
	s.change("app", scopes(14))
	wiped := s.wiped()
	wiped.change("app", scopes(8))
	backup.adopt()
	backup.head.Unhealed = true
	for name, trimmed := range map[string]int{"the log is complete": 0, "the log was trimmed": 1} {
		for name2, held := range map[string][]record.Entry{
			"only the latest is supplied": wiped.held(),
			"all is supplied":             append(s.held(), wiped.held()...),
		} {
			t.Run(name+", "+name2, func(t *testing.T) {
				store := backup.fork()
				store.log = store.log[trimmed:]
				if _, err := store.heal(held, nil, []record.Cursor{wiped.head.Cursor}); err != nil {
					t.Fatal(err)
				}
				if a := store.documents["app"].Tokens[0]; a.Scopes != 8 || a.State != active {
					t.Errorf("got %+v", a)
				}
			})
		}
	}
}

// TestB30_ABackupFromBeforeSeveralWipes: a store was wiped and healed several times, and the fleet holds
// nothing from before the latest wipe. A backup from before the first wipe is restored. It has no changes of
// its own, so only the changes that the fleet holds count.
func TestB30_ABackupFromBeforeSeveralWipes(t *testing.T) {
	scopes := func(s policy.ScopeSet) func(*record.Document) {
		return with("a", func(t *record.Token) { t.Scopes = s })
	}
	s := newStory(t)
	s.change("app", create("a"), scopes(4), enforced(1))
	s.change("other", create("b"))
	backup := s.fork()
	wiped := s.wiped()
	for range 2 {
		wiped.change("app", scopes(6))
		wiped = wiped.wiped()
	}
	wiped.change("app", scopes(8), enforced())
	backup.adopt()
	backup.head.Unhealed = true
	if _, err := backup.heal(wiped.held(), nil, []record.Cursor{wiped.head.Cursor}); err != nil {
		t.Fatal(err)
	}
	if d := backup.documents["app"]; d.Tokens[0].Scopes != 8 || d.Tokens[0].State != active || d.Enforcement.Scopes != 0 {
		t.Errorf("got %+v, %+v", d.Tokens[0], d.Enforcement)
	}
}

// TestB30_WhatWasSwitchedOffBeforeAWipe: a store was wiped and healed, after an app's enforcement had been
// switched off. Then a backup is restored in which it is on. It stays off, because the backup has not changed
// it since.
func TestB30_WhatWasSwitchedOffBeforeAWipe(t *testing.T) {
	s := newStory(t)
	s.change("app", create("a"), enforced(1))
	backup := s.fork()
	s.change("app", enforced())
	wiped := s.wiped()
	backup.adopt()
	backup.head.Unhealed = true
	if _, err := backup.heal(wiped.held(), nil, []record.Cursor{wiped.head.Cursor}); err != nil {
		t.Fatal(err)
	}
	if d := backup.documents["app"]; d.Enforcement.Scopes != 0 {
		t.Errorf("got %+v", d.Enforcement)
	}
}

// TestB30_ABackupAfterACopyFromTheBeginning: a store had been wiped and healed twice. Then a copy of the
// store from before its first change was restored and healed. After that a later backup is restored. The
// first healing had everything in the backup, so the changes after it count.
func TestB30_ABackupAfterACopyFromTheBeginning(t *testing.T) {
	s := newStory(t)
	beginning := s.fork()
	s.change("app", create("a"), with("a", func(t *record.Token) { t.Scopes = 8 }))
	backup := s.wiped().wiped() // so that its head does not have the end of the first epoch
	first := beginning.mustHeal(backup)
	beginning.change("app", with("a", func(t *record.Token) { t.Scopes = 4 }))
	for range 3 {
		backup.adopt()
	}
	backup.head.Unhealed = true
	healed, err := backup.heal(beginning.held(), nil, []record.Cursor{beginning.head.Cursor})
	if err != nil || len(healed.GivenUp) > 0 || first.Nothing {
		t.Fatalf("%+v, %v", healed, err)
	}
	if a := backup.documents["app"].Tokens[0]; a.Scopes != 4 || a.State != active {
		t.Errorf("got %+v", a)
	}
}

// TestSettledIsBounded: settling returns all tags of the loss itself, and as many tags of lost starts as
// maxSettled allows.
func TestSettledIsBounded(t *testing.T) {
	past := newKnown(nil)
	l := newLoss(&past)
	start := record.Cursor{Epoch: 2, Revision: 9, Tag: record.NewTag()}
	l.lineages = []lineage{{entries: []record.Entry{
		{Cursor: start},
		{Cursor: record.Cursor{Epoch: 2, Revision: 10, Tag: record.NewTag()}},
	}}}
	for range maxSettled {
		l.settles[start.Tag] = append(l.settles[start.Tag], record.NewTag())
	}
	want := append(l.tags(), l.settles[start.Tag][:maxSettled-2]...)
	if got := l.settling(); !slices.Equal(got, want) {
		t.Errorf("got %d tags, want %d, in order", len(got), len(want))
	}
}

// TestB08_MoreRevokedTokensThanADocumentHolds: a replica holds more sticky revocations than a document can
// list. All of them are revoked, and the healing can be written. Otherwise the partition would stay frozen
// for ever.
func TestB08_MoreRevokedTokensThanADocumentHolds(t *testing.T) {
	s := newStory(t)
	s.change("app", create("a"))
	var sticky []replica.Sticky
	for i := range 2*policy.MaxTokens + 5 {
		seen := token(fmt.Sprint("t", i)).Token
		if seen.State = gone; i%2 > 0 {
			seen = slices.Collect(policy.Memory{}.With(seen).Tokens())[0]
		}
		sticky = append(sticky, replica.Sticky{AppID: "app", Token: seen})
	}
	if _, err := s.heal(nil, sticky, nil); err != nil {
		t.Fatal(err)
	}
	p, err := s.documents["app"].Policy()
	if err != nil {
		t.Fatal(err)
	}
	for i := range sticky {
		if !p.Revokes(&sticky[i].Token) {
			t.Fatalf("token %d of %d is not revoked", i, len(sticky))
		}
	}
	if again, err := s.heal(nil, sticky, nil); err != nil || !again.Nothing {
		t.Errorf("the second healing: got %+v, %v, want nothing to do", again, err)
	}
}
