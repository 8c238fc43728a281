package store

import (
	"maps"
	"slices"
	"testing"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/services/store/internal/merge"
)

const active, gone = policy.Active, policy.Revoked

type tokens = map[string]policy.State

func (s *story) want(t *testing.T, app string, want tokens) {
	t.Helper()
	if got := s.states(app); !maps.Equal(got, want) || (got == nil) != (want == nil) {
		t.Errorf("%s has %v, want %v", app, got, want)
	}
}

// TestHealMerges: the documents that result when the store has lost changes of one or a few apps.
func TestHealMerges(t *testing.T) {
	type sides struct{ store, lost *story }
	for _, tt := range []struct {
		name string
		// common makes changes before the failover. Diverge makes changes on both sides after it.
		common  func(*story)
		diverge func(sides)
		want    map[string]tokens
		check   func(*testing.T, sides)
	}{
		{
			name:    "the store made no change since: all lost changes come back",
			common:  func(s *story) { s.change("app", create("a")) },
			diverge: func(s sides) { s.lost.change("app", create("b"), renamed("a", "new name"), enforced(1)) },
			want:    map[string]tokens{"app": {"a": active, "b": active}},
			check: func(t *testing.T, s sides) {
				d := s.store.documents["app"]
				if d.Tokens[0].Name != "new name" || d.Tokens[1].Name != "name of b" || !d.Enforcement.Scopes.Has(1) {
					t.Errorf("got %+v", d)
				}
			},
		},
		{
			name:    "an app that the lost side made comes back",
			common:  func(s *story) { s.change("app", create("a")) },
			diverge: func(s sides) { s.lost.change("new", create("b")); s.lost.change("new", create("c")) },
			want:    map[string]tokens{"app": {"a": active}, "new": {"b": active, "c": active}},
		},
		{
			name:   "the store changed another app since: both changes count",
			common: func(s *story) { s.change("app", create("a")); s.change("other", create("x")) },
			diverge: func(s sides) {
				s.store.change("other", create("y"))
				s.lost.change("app", create("b"))
			},
			want: map[string]tokens{"app": {"a": active, "b": active}, "other": {"x": active, "y": active}},
		},
		{
			name:   "B30: both sides changed different values of the app: all changes are kept",
			common: func(s *story) { s.change("app", create("a")) },
			diverge: func(s sides) {
				s.store.change("app", create("b"), with("a", func(t *record.Token) { t.Note = "noted" }))
				s.lost.change("app", create("c"), enforced(1))
			},
			want: map[string]tokens{"app": {"a": active, "b": active, "c": active}},
			check: func(t *testing.T, s sides) {
				if d := s.store.documents["app"]; d.Enforcement.Scopes != policy.ScopesOf(1) || d.Tokens[0].Note != "noted" {
					t.Errorf("got %+v", d)
				}
			},
		},
		{
			name:   "B30: enforcement that only the store switched off stays off",
			common: func(s *story) { s.change("app", create("a"), enforced(1)) },
			diverge: func(s sides) {
				s.store.change("app", enforced())
				s.store.change("app", create("b"))
				s.lost.change("app", renamed("a", "x"))
			},
			want: map[string]tokens{"app": {"a": active, "b": active}},
			check: func(t *testing.T, s sides) {
				if d := s.store.documents["app"]; d.Enforcement.Scopes != 0 || d.Tokens[0].Name != "x" {
					t.Errorf("got %+v", d)
				}
			},
		},
		{
			name:   "B30: both sides changed the same value: the value that denies more stays",
			common: func(s *story) { s.change("app", create("a"), create("b"), enforced(1)) },
			diverge: func(s sides) {
				s.store.change("app", enforced(), with("a", func(t *record.Token) { t.Note = "noted" }))
				s.lost.change("app", enforced(1, 2), with("a", func(t *record.Token) { t.State = policy.Disabled }))
			},
			want: map[string]tokens{"app": {"a": policy.Disabled, "b": active}},
			check: func(t *testing.T, s sides) {
				if d := s.store.documents["app"]; d.Enforcement.Scopes != policy.ScopesOf(1, 2) {
					t.Errorf("got %+v", d)
				}
			},
		},
		{
			name:   "B30: the log lacks the store's change of the app: all values count as changed",
			common: func(s *story) { s.change("app", create("a"), create("b"), enforced(1)) },
			diverge: func(s sides) {
				s.store.change("app", enforced())
				s.store.change("app", with("a", func(t *record.Token) { t.State = policy.Disabled }))
				s.store.change("other", create("x"))
				s.lost.change("app", enforced(1, 2), with("a", func(t *record.Token) { t.Note = "noted" }))
				s.store.log = append(s.store.log[:1], s.store.log[2:]...)
			},
			want: map[string]tokens{"app": {"a": policy.Disabled, "b": active}, "other": {"x": active}},
			check: func(t *testing.T, s sides) {
				if d := s.store.documents["app"]; d.Enforcement.Scopes != policy.ScopesOf(1, 2) {
					t.Errorf("got %+v", d)
				}
			},
		},
		{
			name:   "both sides changed a token that both have: the lost side's revocation counts",
			common: func(s *story) { s.change("app", create("a"), create("b")) },
			diverge: func(s sides) {
				s.store.change("app", renamed("a", "x"))
				s.lost.change("app", revoked("a"))
			},
			want: map[string]tokens{"app": {"a": gone, "b": active}},
			check: func(t *testing.T, s sides) {
				a := s.store.documents["app"].Tokens[0]
				if a.Name != "name of a" || a.RevokeMillis != 77 || a.TouchedRevision != s.store.documents["app"].Revision {
					t.Errorf("got %+v", a)
				}
			},
		},
		{
			name:   "both sides changed the app: a token that only the lost side had is in the store as revoked",
			common: func(s *story) { s.change("app", create("a")) },
			diverge: func(s sides) {
				s.store.change("app", renamed("a", "x"))
				s.lost.change("app", create("b"))
				s.lost.change("app", revoked("b"))
			},
			want: map[string]tokens{"app": {"a": active, "b": gone}},
		},
		{
			name:   "both sides made a token with the same secret, the lost side revoked it: the store's is revoked",
			common: func(s *story) { s.change("app", create("a")) },
			diverge: func(s sides) {
				s.store.change("app", create("b"), with("b", func(t *record.Token) { t.Digest = secret.DigestOf("same") }))
				s.lost.change("app", create("c"), with("c", func(t *record.Token) { t.Digest = secret.DigestOf("same") }))
				s.lost.change("app", revoked("c"))
			},
			want: map[string]tokens{"app": {"a": active, "b": gone}},
		},
		{
			name:   "both sides made a token with the same id and other secrets: the revoked secret gets another id",
			common: func(s *story) { s.change("app", create("a")) },
			diverge: func(s sides) {
				s.store.change("app", create("b"))
				s.lost.change("app", create("b"), with("b", func(t *record.Token) { t.Digest = secret.DigestOf("other") }), revoked("b"))
			},
			want: map[string]tokens{"app": {"a": active, "b": active, merge.IDOf(secret.DigestOf("other")): gone}},
		},
		{
			name:   "the store revoked a token that the lost side renamed: it stays revoked",
			common: func(s *story) { s.change("app", create("a")) },
			diverge: func(s sides) {
				s.store.change("app", revoked("a"))
				s.lost.change("app", renamed("a", "x"))
			},
			want: map[string]tokens{"app": {"a": gone}},
			check: func(t *testing.T, s sides) {
				if s.store.documents["app"].Tokens[0].Name != "name of a" {
					t.Error("the other side's name was taken over")
				}
			},
		},
		{
			name:   "only the lost side changed the app, and deleted it: it is deleted",
			common: func(s *story) { s.change("app", create("a")) },
			diverge: func(s sides) {
				s.lost.change("app", revoked("a"), func(d *record.Document) { d.Deleted = true })
			},
			want: map[string]tokens{"app": {"a": gone}},
			check: func(t *testing.T, s sides) {
				if !s.store.documents["app"].Deleted {
					t.Error("got an app that exists, want it deleted")
				}
			},
		},
		{
			name:   "the lost side deleted an app that the store changed: the app stays, without its earlier tokens",
			common: func(s *story) { s.change("app", create("a")) },
			diverge: func(s sides) {
				s.store.change("app", create("b"))
				s.lost.change("app", revoked("a"), func(d *record.Document) { d.Deleted = true })
			},
			want: map[string]tokens{"app": {"a": gone, "b": active}},
			check: func(t *testing.T, s sides) {
				if s.store.documents["app"].Deleted {
					t.Error("got a deleted app, want one that exists")
				}
			},
		},
		{
			name:   "a token that only the lost side removed is removed",
			common: func(s *story) { s.change("app", create("a"), create("b")) },
			diverge: func(s sides) {
				s.lost.change("app", func(d *record.Document) { d.Tokens = d.Tokens[1:] })
			},
			want: map[string]tokens{"app": {"b": active}},
		},
		{
			name:   "both sides changed the app, the lost side twice: all changes are kept",
			common: func(s *story) { s.change("app", create("a")) },
			diverge: func(s sides) {
				s.store.change("app", create("b"))
				s.lost.change("app", create("c"))
				s.lost.change("app", create("d")) // made from revision 2 of the lost side, not of the store's
			},
			want: map[string]tokens{"app": {"a": active, "b": active, "c": active, "d": active}},
		},
		{
			name:   "both sides changed the app: a token that the healing revokes gets a new etag",
			common: func(s *story) { s.change("app", create("a")) },
			diverge: func(s sides) {
				s.store.change("app", create("b"))
				s.store.change("app", create("c"))
				s.lost.change("app", revoked("a"))
			},
			want: map[string]tokens{"app": {"a": gone, "b": active, "c": active}},
			check: func(t *testing.T, s sides) {
				if d := s.store.documents["app"]; d.Tokens[0].TouchedRevision == 1 || d.Tokens[0].RevokeMillis != 77 {
					t.Errorf("got %+v, the document is of revision %d", d.Tokens[0], d.Revision)
				}
			},
		},
		{
			name:   "the healed app has another etag than on the lost side",
			common: func(s *story) { s.change("app", create("a")) },
			diverge: func(s sides) {
				s.store.change("app", enforced(1))
				s.lost.change("app", enforced(2))
			},
			want: map[string]tokens{"app": {"a": active}},
			check: func(t *testing.T, s sides) {
				if d := s.store.documents["app"]; d.Revision == 2 || d.Enforcement.Scopes != policy.ScopesOf(1, 2) {
					t.Errorf("got %+v", d)
				}
			},
		},
		{
			name:   "a healed token has another etag than on the lost side",
			common: func(s *story) { s.change("app", create("a")) },
			diverge: func(s sides) {
				s.store.change("app", renamed("a", "x"))
				s.lost.change("app", renamed("a", "y"))
			},
			want: map[string]tokens{"app": {"a": active}},
			check: func(t *testing.T, s sides) {
				d := s.store.documents["app"]
				if d.Revision <= 2 || d.Tokens[0].TouchedRevision != d.Revision || d.Tokens[0].Name != "y" {
					t.Errorf("got revision %d, %+v", d.Revision, d.Tokens[0])
				}
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := sides{store: newStory(t)}
			tt.common(s.store)
			s.lost = s.store.fork()
			tt.diverge(s)
			fork, seen := s.store.head.Cursor, s.lost.head.Cursor
			healed, err := s.store.heal(s.lost.held(), nil, []record.Cursor{seen})
			if err != nil {
				t.Fatal(err)
			}
			for app, want := range tt.want {
				s.store.want(t, app, want)
			}
			if len(s.store.documents) != len(tt.want) {
				t.Errorf("got %d apps, want %d", len(s.store.documents), len(tt.want))
			}
			if tt.check != nil {
				tt.check(t, s)
			}
			if healed.Start.Epoch != 2 || healed.Start.Revision <= max(fork.Revision, seen.Revision) ||
				s.store.head.Forks[0] != fork {
				t.Errorf("the epoch begins at %s, behind %s and %s; the head says behind %v", healed.Start, fork, seen,
					s.store.head.Forks)
			}
			again, err := s.store.heal(s.lost.held(), nil, []record.Cursor{seen, fork})
			if err != nil || !again.Nothing {
				t.Errorf("the second healing: got %+v, %v, want nothing to do", again, err)
			}
		})
	}
}

// TestHealSticky: a revocation that a replica has seen is in force in the store after the healing (B08). An
// app without a document gets none. A document with only revocations would look like an app that was never
// configured or was deleted. Replicas that know the app to be missing would accept it.
func TestHealSticky(t *testing.T) {
	sticky := func(app, id string) replica.Sticky {
		seen := token(id).Token
		seen.State = gone
		return replica.Sticky{AppID: app, Token: seen}
	}
	s := newStory(t)
	s.change("app", create("a"), create("b"))
	s.change("done", create("d"), revoked("d"))
	healed, err := s.heal(nil, []replica.Sticky{
		sticky("app", "a"), sticky("app", "c"), sticky("none", "x"),
		sticky("done", "d"),
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.want(t, "app", tokens{"a": gone, "b": active, "c": gone})
	if s.documents["none"] != nil {
		t.Errorf("an app without a document has one: %+v", s.documents["none"])
	}
	if !slices.Equal(healed.Apps, []string{"app"}) {
		t.Errorf("the healing changed %v, want only app", healed.Apps)
	}
	again, err := s.heal(nil, []replica.Sticky{sticky("app", "a"), sticky("none", "x")}, nil)
	if err != nil || !again.Nothing {
		t.Errorf("the second healing: got %+v, %v, want nothing to do", again, err)
	}
}

// TestHealStickyTwice: two replicas supply the same revocation of a token that the document does not have.
// The document gets the token once: with two tokens of one digest, it could not be written.
func TestHealStickyTwice(t *testing.T) {
	s := newStory(t)
	s.change("app", create("a"))
	seen := token("b").Token
	seen.State = gone
	twice := []replica.Sticky{{AppID: "app", Token: seen}, {AppID: "app", Token: seen}}
	if _, err := s.heal(nil, twice, nil); err != nil {
		t.Fatal(err)
	}
	s.want(t, "app", tokens{"a": active, "b": gone})
	if got := s.documents["app"].Tokens; len(got) != 2 {
		t.Errorf("got %d tokens, want 2", len(got))
	}
}

func (s *story) mustHeal(lost *story) Healed {
	s.t.Helper()
	healed, err := s.heal(lost.held(), nil, []record.Cursor{lost.head.Cursor})
	if err != nil {
		s.t.Fatal(err)
	}
	return healed
}
