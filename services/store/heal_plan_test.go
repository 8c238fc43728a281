package store

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/secret"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
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

// TestHealMerges: what comes of one app, or of a few, when the store has lost changes.
func TestHealMerges(t *testing.T) {
	type sides struct{ store, lost *story }
	for _, tt := range []struct {
		name string
		// common is what happened before the failover, diverge what each side did after it.
		common  func(*story)
		diverge func(sides)
		want    map[string]tokens
		check   func(*testing.T, sides)
	}{
		{
			name:    "the store did nothing since: all comes back, whole",
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
			name:    "a new app comes back",
			common:  func(s *story) { s.change("app", create("a")) },
			diverge: func(s sides) { s.lost.change("new", create("b")); s.lost.change("new", create("c")) },
			want:    map[string]tokens{"app": {"a": active}, "new": {"b": active, "c": active}},
		},
		{
			name:   "the store changed another app: both count",
			common: func(s *story) { s.change("app", create("a")); s.change("other", create("x")) },
			diverge: func(s sides) {
				s.store.change("other", create("y"))
				s.lost.change("app", create("b"))
			},
			want: map[string]tokens{"app": {"a": active, "b": active}, "other": {"x": active, "y": active}},
		},
		{
			name:   "B30: both changed the app, but not the same of it: all of it is kept",
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
			name:   "B30: what the store alone has switched off stays off",
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
			name:   "B30: of what both changed the side that denies more stays",
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
			name:   "B30: the log does not tell what the store has changed: all of it counts as changed",
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
			name:   "both changed the app: the lost side's revocation of a token that both have",
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
			name:   "both changed the app: a token that the store does not have is remembered as revoked",
			common: func(s *story) { s.change("app", create("a")) },
			diverge: func(s sides) {
				s.store.change("app", renamed("a", "x"))
				s.lost.change("app", create("b"))
				s.lost.change("app", revoked("b"))
			},
			want: map[string]tokens{"app": {"a": active, "b": gone}},
		},
		{
			name:   "both made a token of the same secret: the store's is revoked, whatever its id",
			common: func(s *story) { s.change("app", create("a")) },
			diverge: func(s sides) {
				s.store.change("app", create("b"), with("b", func(t *record.Token) { t.Digest = secret.DigestOf("same") }))
				s.lost.change("app", create("c"), with("c", func(t *record.Token) { t.Digest = secret.DigestOf("same") }))
				s.lost.change("app", revoked("c"))
			},
			want: map[string]tokens{"app": {"a": active, "b": gone}},
		},
		{
			name:   "both made a token of the same id with other secrets: both are refused that were revoked",
			common: func(s *story) { s.change("app", create("a")) },
			diverge: func(s sides) {
				s.store.change("app", create("b"))
				s.lost.change("app", create("b"), with("b", func(t *record.Token) { t.Digest = secret.DigestOf("other") }), revoked("b"))
			},
			want: map[string]tokens{"app": {"a": active, "b": active, merge.IDOf(secret.DigestOf("other")): gone}},
		},
		{
			name:   "the store's own revocation stays, whatever the lost side made of the token",
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
			name:   "an app that was deleted on the lost side alone is deleted",
			common: func(s *story) { s.change("app", create("a")) },
			diverge: func(s sides) {
				s.lost.change("app", revoked("a"), func(d *record.Document) { d.Deleted = true })
			},
			want: map[string]tokens{"app": {"a": gone}},
			check: func(t *testing.T, s sides) {
				if !s.store.documents["app"].Deleted {
					t.Error("the app is there again")
				}
			},
		},
		{
			name:   "an app that was deleted on the lost side and changed by the store stays, without the tokens of then",
			common: func(s *story) { s.change("app", create("a")) },
			diverge: func(s sides) {
				s.store.change("app", create("b"))
				s.lost.change("app", revoked("a"), func(d *record.Document) { d.Deleted = true })
			},
			want: map[string]tokens{"app": {"a": gone, "b": active}},
			check: func(t *testing.T, s sides) {
				if s.store.documents["app"].Deleted {
					t.Error("the app is gone")
				}
			},
		},
		{
			name:   "a token that left on the lost side alone leaves",
			common: func(s *story) { s.change("app", create("a"), create("b")) },
			diverge: func(s sides) {
				s.lost.change("app", func(d *record.Document) { d.Tokens = d.Tokens[1:] })
			},
			want: map[string]tokens{"app": {"b": active}},
		},
		{
			name:   "both changed the app, the lost side twice: what each made is kept",
			common: func(s *story) { s.change("app", create("a")) },
			diverge: func(s sides) {
				s.store.change("app", create("b"))
				s.lost.change("app", create("c"))
				s.lost.change("app", create("d")) // made from revision 2 of the lost side, not of the store's
			},
			want: map[string]tokens{"app": {"a": active, "b": active, "c": active, "d": active}},
		},
		{
			name:   "both changed the app: a revoked token has another etag than before",
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
			name:   "an app's etag of the lost side is none of the store's",
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
			name:   "an etag of the lost side is none of the store's",
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
				t.Errorf("there are %d apps", len(s.store.documents))
			}
			if tt.check != nil {
				tt.check(t, s)
			}
			if healed.Start.Epoch != 2 || healed.Start.Revision <= max(fork.Revision, seen.Revision) || s.store.head.Forks[0] != fork {
				t.Errorf("the epoch begins at %s, behind %s and %s; the head says behind %v", healed.Start, fork, seen, s.store.head.Forks)
			}
			again, err := s.store.heal(s.lost.held(), nil, []record.Cursor{seen, fork})
			if err != nil || !again.Nothing {
				t.Errorf("the second time: %+v, %v", again, err)
			}
		})
	}
}

// TestHealSticky: what a replica has seen revoked is revoked in the store, whatever that has lost (B08). Of
// an app without a document nothing is told: it would count as one that was never configured, or was
// deleted, and replicas that know that it is missing would believe it.
func TestHealSticky(t *testing.T) {
	sticky := func(app, id string) replica.Sticky {
		seen := token(id).Token
		seen.State = gone
		return replica.Sticky{AppID: app, Token: seen}
	}
	s := newStory(t)
	s.change("app", create("a"), create("b"))
	s.change("done", create("d"), revoked("d"))
	healed, err := s.heal(nil, []replica.Sticky{sticky("app", "a"), sticky("app", "c"), sticky("none", "x"), sticky("done", "d")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.want(t, "app", tokens{"a": gone, "b": active, "c": gone})
	if s.documents["none"] != nil {
		t.Errorf("an app without a document has one: %+v", s.documents["none"])
	}
	if !slices.Equal(healed.Apps, []string{"app"}) {
		t.Errorf("%v were changed", healed.Apps)
	}
	again, err := s.heal(nil, []replica.Sticky{sticky("app", "a"), sticky("none", "x")}, nil)
	if err != nil || !again.Nothing {
		t.Errorf("the second time: %+v, %v", again, err)
	}
}

// TestHealKnowsWhatIsLost: links and cursors of every kind, and what they are to the store.
func TestHealKnowsWhatIsLost(t *testing.T) {
	cursors := func(stories ...*story) (all []record.Cursor) {
		for _, s := range stories {
			all = append(all, s.head.Cursor)
		}
		return all
	}
	for _, tt := range []struct {
		name string
		run  func(t *testing.T) (s *story, entries []record.Entry, seen []record.Cursor)
		// lost is how many changes were lost, 0 for nothing to do; missing is a part of the error when it
		// cannot be healed; givenUp is how many cursors count no more.
		lost    int
		missing string
		givenUp int
	}{
		{name: "nothing was lost", run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
			s := newStory(t)
			s.change("app", create("a"))
			return s, s.held(), append(cursors(s), record.Cursor{})
		}},
		{name: "a store without changes", run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
			s := newStory(t)
			return s, nil, cursors(s)
		}},
		{name: "the first changes of all were lost", lost: 2, run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
			s := newStory(t)
			lost := s.fork()
			lost.change("app", create("a"))
			lost.change("app", create("b"))
			return s, lost.held(), cursors(lost)
		}},
		{name: "the first changes of all were lost, and others made", lost: 2, run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
			s := newStory(t)
			lost := s.fork()
			lost.change("app", create("a"))
			lost.change("app", create("b"))
			s.change("app", create("c"))
			s.change("app", create("d"))
			s.change("app", create("e"))
			return s, lost.held(), cursors(lost, s)
		}},
		{name: "backwards and twice", lost: 3, run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
			s := newStory(t)
			s.change("app", create("a"))
			lost := s.fork()
			for _, id := range []string{"b", "c", "d"} {
				lost.change("app", create(id))
			}
			entries := append(lost.held(), lost.held()...)
			slices.Reverse(entries)
			return s, entries, cursors(lost)
		}},
		{name: "one in the middle is missing", missing: "of epoch 1, revisions 2 to 3 have been seen", run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
			s := newStory(t)
			s.change("app", create("a"))
			lost := s.fork()
			for _, id := range []string{"b", "c", "d"} {
				lost.change("app", create(id))
			}
			return s, lost.held()[3:], cursors(lost)
		}},
		{name: "the last ones are missing", missing: "of epoch 1, revisions 3 to 4 have been seen", run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
			s := newStory(t)
			s.change("app", create("a"))
			lost := s.fork()
			for _, id := range []string{"b", "c", "d"} {
				lost.change("app", create(id))
			}
			return s, lost.held()[:2], cursors(lost)
		}},
		{name: "somebody saw another change in the head's place", missing: "a revision 1 has been seen that is not the store's", run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
			s := newStory(t)
			lost := s.fork()
			lost.change("app", create("b"))
			s.change("app", create("a"))
			return s, nil, cursors(lost)
		}},
		{name: "two lineages", lost: 3, run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
			s := newStory(t)
			s.change("app", create("a"))
			one := s.fork()
			one.change("app", create("b"))
			other := one.fork()
			one.change("app", create("c"))
			other.change("other", create("d"))
			return s, append(other.held(), one.held()...), cursors(one, other)
		}},
		{name: "an older cursor, from before the log", run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
			s := newStory(t)
			for _, id := range []string{"b", "c", "d", "e"} {
				s.change("app", create(id))
			}
			entries, old := s.held(), s.held()[0].Cursor
			s.log = s.log[2:]
			return s, entries, []record.Cursor{old}
		}},
		{name: "the log is gone", run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
			s := newStory(t)
			s.change("app", create("a"))
			s.change("app", create("b"))
			s.log = nil
			return s, s.held(), []record.Cursor{s.held()[0].Cursor, s.head.Cursor}
		}},
		{name: "the log has a hole", run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
			s := newStory(t)
			for _, id := range []string{"b", "c", "d", "e"} {
				s.change("app", create(id))
			}
			s.log = append(s.log[:1], s.log[3:]...)
			return s, s.held(), cursors(s)
		}},
		{name: "the log has a hole, and only what was there is supplied", run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
			s := newStory(t)
			for _, id := range []string{"b", "c", "d", "e"} {
				s.change("app", create(id))
			}
			s.log = append(s.log[:1], s.log[3:]...)
			return s, s.held()[1:2], cursors(s)
		}},
		{name: "only what was before the log is supplied", run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
			s := newStory(t)
			for _, id := range []string{"b", "c", "d", "e"} {
				s.change("app", create(id))
			}
			s.log = s.log[2:]
			return s, s.held()[:1], nil
		}},
		{name: "only what was before the log is supplied, of an epoch so long ago that the head does not say where it ended", run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
			s := newStory(t)
			s.change("app", create("a"))
			s.change("app", create("b"))
			for range record.MaxForks + 2 {
				s.adopt()
			}
			s.log = s.log[2:]
			return s, s.held()[:1], nil
		}},
		{name: "one of another time that was settled", run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
			s := newStory(t)
			lost := s.fork()
			lost.change("app", create("b"))
			s.mustHeal(lost)
			return s, lost.held(), cursors(lost, s)
		}},
		{name: "settled so long ago that the log does not say it: once more", lost: 1, run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
			s := newStory(t)
			s.change("app", create("a"))
			lost := s.fork()
			lost.change("app", create("b"))
			s.mustHeal(lost)
			s.change("app", create("c"))
			s.log = s.log[len(s.log)-1:]
			return s, lost.held(), cursors(lost, s)
		}},
		{name: "settled so long ago that the log does not say it, and somebody has what does", run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
			s := newStory(t)
			s.change("app", create("a"))
			lost := s.fork()
			lost.change("app", create("b"))
			s.mustHeal(lost)
			s.change("app", create("c"))
			s.log = s.log[len(s.log)-1:]
			return s, append(s.held(), lost.held()...), cursors(lost, s)
		}},
		{name: "of an epoch so long ago that the head does not say where it ended", lost: 1, run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
			s := newStory(t)
			s.change("app", create("a"))
			lost := s.fork()
			lost.change("app", create("b"))
			for range record.MaxForks + 2 {
				s.adopt()
			}
			return s, append(s.held(), lost.held()...), cursors(lost, s)
		}},
		{name: "an epoch's revisions past its end, where the next one had not begun yet", lost: 2, run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
			s := newStory(t)
			s.change("app", create("a"))
			lost := s.fork()
			lost.change("app", create("b"))
			lost.change("app", create("c"))
			s.take(epoch{top: record.Cursor{Epoch: 3, Revision: 9}, cause: countersignv1.EpochCause_EPOCH_CAUSE_ADOPTED, sum: s.sum})
			s.adopt()
			return s, lost.held(), cursors(lost, s)
		}},
		{name: "another epoch of the same number, that began earlier", lost: 2, run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
			s := newStory(t)
			s.change("app", create("a"))
			lost := s.fork()
			begin := func(s *story, revision uint64) {
				s.take(epoch{top: record.Cursor{Epoch: 2, Revision: revision}, cause: countersignv1.EpochCause_EPOCH_CAUSE_ADOPTED, sum: s.sum})
			}
			begin(lost, 4)
			lost.change("app", create("b"))
			begin(s, 9)
			s.change("app", create("c"))
			return s, lost.held(), cursors(lost, s)
		}},
		{name: "one that nobody supplied when its epoch ended", lost: 1, run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
			s := newStory(t)
			s.change("app", create("a"))
			lost := s.fork()
			lost.change("app", create("b"))
			s.mustHeal(lost)
			lost.change("app", create("c"))
			return s, lost.held(), cursors(lost, s)
		}},
		{name: "a cursor that nobody has links of, of an epoch that is over", givenUp: 1, run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
			s := newStory(t)
			lost := s.fork()
			lost.change("app", create("b"))
			s.adopt()
			return s, nil, cursors(lost, s)
		}},
		{name: "one that leads nowhere, of an epoch that is over", lost: 1, givenUp: 0, run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
			s := newStory(t)
			lost := s.fork()
			lost.change("app", create("b"))
			lost.change("app", create("c"), revoked("b"))
			s.adopt()
			return s, lost.held()[1:], nil
		}},
		{name: "an epoch that the store never had", lost: 3, run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
			s := newStory(t)
			s.change("app", create("a"))
			lost := s.fork()
			lost.change("app", create("b"))
			lost.adopt()
			lost.change("app", create("c"))
			return s, lost.held(), cursors(lost)
		}},
		{name: "an epoch that the store never had, and whose start nobody has", missing: "of epoch 2", run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
			s := newStory(t)
			s.change("app", create("a"))
			lost := s.fork()
			lost.adopt()
			lost.change("app", create("b"))
			return s, lost.held()[2:], cursors(lost)
		}},
		{name: "an epoch that the store never had, in which nothing happened", lost: 1, run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
			s := newStory(t)
			s.change("app", create("a"))
			lost := s.fork()
			lost.adopt()
			return s, lost.held(), cursors(lost)
		}},
		{name: "a backup that the store never had", lost: 2, run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
			s := newStory(t)
			s.change("app", create("a"))
			lost := s.fork()
			lost.take(epoch{top: record.Cursor{Epoch: 2, Revision: 9}, cause: countersignv1.EpochCause_EPOCH_CAUSE_RESTORED, sum: lost.sum})
			lost.change("app", create("b"))
			return s, lost.held(), cursors(lost)
		}},
		{name: "a healing that was lost itself", lost: 4, run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
			s := newStory(t)
			s.change("app", create("a"))
			lost := s.fork()
			lost.change("app", create("b"))
			once := s.fork()
			once.mustHeal(lost)
			once.change("app", create("c"))
			return s, append(once.held(), lost.held()...), cursors(once, lost)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, entries, seen := tt.run(t)
			was := s.head.Cursor
			healed, err := s.heal(entries, nil, seen)
			if tt.missing != "" {
				if !errors.Is(err, ErrIncomplete) || !strings.Contains(err.Error(), tt.missing) {
					t.Fatalf("got %+v, %v, want that there is missing %q", healed, err, tt.missing)
				}
				return
			}
			if err != nil || healed.Nothing != (tt.lost == 0) || healed.Lost != tt.lost || len(healed.GivenUp) != tt.givenUp {
				t.Fatalf("got %+v, %v", healed, err)
			}
			above := append(slices.Clone(seen), was)
			for _, e := range entries {
				above = append(above, e.Cursor)
			}
			for _, c := range above {
				if !healed.Nothing && (healed.Start.Epoch <= c.Epoch || healed.Start.Revision <= c.Revision) {
					t.Errorf("the new epoch begins at %s, not above %s", healed.Start, c)
				}
			}
			again, err := s.heal(entries, nil, seen)
			if err != nil || !again.Nothing {
				t.Errorf("the second time: %+v, %v", again, err)
			}
		})
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

// TestHealStray: nobody knows what a change that leads nowhere was made from. It counts as one that changed
// all that it has: the token that it made is kept, and so is what it revoked (B30).
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

// TestHealStrayTwice: what leads nowhere, and was dealt with in an epoch that is lost itself, does not
// hinder that one from being brought back.
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

// TestHealForkAtTheEndOfTheLog: the change before the log's first is known by what that one names.
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

// TestHealLineages: each is merged with those before it, from where the two parted (B30).
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
	if _, err := s.heal(append(other.held(), further.held()...), nil, []record.Cursor{further.head.Cursor, other.head.Cursor}); err != nil {
		t.Fatal(err)
	}
	s.want(t, "app", tokens{"a": active, "b": gone, "c": active, "d": active})
	if c := s.documents["app"].Tokens[2]; c.Name != "y" {
		t.Errorf("got %+v", c)
	}
	s.want(t, "two", tokens{"t": active, "u": active})
}

// TestHealTwice: what was healed, and what was changed on top of it, comes back when a failover loses all
// of it, also some of what was before.
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
		{"to what it was healed from", late, nil},
		{"to something older", early, nil},
		{"to what it was healed from, with what was lost at first", late, lost.held()},
		{"to something older, with what was lost at first", early, lost.held()},
		{"to something older, with a part of what was lost at first", early, lost.held()[3:]},
	} {
		t.Run(tt.name, func(t *testing.T) {
			store, held := tt.store.fork(), tt.held
			// Who saw what was lost at first may have dropped it since.
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
// lacks. A later backup, which has some of that, is restored then. The two have one change in two shapes,
// which is no change of both: what came after it counts, and nothing is given up, however little of the log
// the later backup has.
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
	for name, held := range map[string][]record.Entry{"the fleet holds both pasts": append(s.held(), backup.held()...), "the latest alone": backup.held()} {
		for trimmed := range len(later.log) + 1 {
			t.Run(fmt.Sprintf("%s, the log has %d entries less", name, trimmed), func(t *testing.T) {
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

// TestSearchKnowsWhatIsDealtWithInTurn: an epoch has dealt with a change that nobody keeps since, and
// another one with that epoch. What followed the change is connected all the same.
func TestSearchKnowsWhatIsDealtWithInTurn(t *testing.T) {
	at := func(epoch, revision uint64) record.Cursor {
		return record.Cursor{Epoch: epoch, Revision: revision, Tag: record.NewTag()}
	}
	head := record.Head{Cursor: at(2, 24)}
	kept := at(2, 26)
	late := record.Entry{Cursor: at(2, 27), Previous: kept, Link: &record.Link{}}
	third := record.Entry{Cursor: at(3, 27), Previous: head.Cursor, Settled: []record.Tag{kept.Tag}}
	fourth := record.Entry{Cursor: at(4, 30), Previous: third.Cursor}
	fifth := record.Entry{Cursor: at(5, 33), Previous: head.Cursor, Settled: []record.Tag{third.Tag}}
	k := newKnown(&head)
	lost, err := k.search(0, []record.Entry{late, third, fourth, fifth}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if tags := lost.tags(); !slices.Contains(tags, late.Tag) {
		t.Error("the late change is not among what was lost")
	}
}

// TestSearchGoesOnBehindWhatIsDealtWith: a lost epoch has dealt with a change in the middle of another lost
// lineage. What lies before it there is lost as well, and was supplied.
func TestSearchGoesOnBehindWhatIsDealtWith(t *testing.T) {
	at := func(epoch, revision uint64) record.Cursor {
		return record.Cursor{Epoch: epoch, Revision: revision, Tag: record.NewTag()}
	}
	head := record.Head{Cursor: at(1, 24)}
	start := record.Entry{Cursor: at(2, 26), Previous: head.Cursor}
	first := record.Entry{Cursor: at(2, 27), Previous: start.Cursor, Link: &record.Link{}}
	second := record.Entry{Cursor: at(2, 28), Previous: first.Cursor, Link: &record.Link{}}
	later := record.Entry{Cursor: at(4, 29), Previous: second.Cursor}
	other := record.Entry{Cursor: at(4, 31), Previous: head.Cursor, Settled: []record.Tag{second.Tag}}
	k := newKnown(&head)
	lost, err := k.search(0, []record.Entry{start, first, second, later, other}, []record.Cursor{first.Cursor})
	if err != nil {
		t.Fatal(err)
	}
	for name, e := range map[string]record.Entry{"start": start, "first": first, "later": later, "other": other} {
		if tags := lost.tags(); !slices.Contains(tags, e.Tag) {
			t.Errorf("the %s one is not among what was lost", name)
		}
	}
}
