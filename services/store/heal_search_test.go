package store

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/countersign/countersign/pkg/record"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// TestHealKnowsWhatIsLost: which supplied links and seen cursors count as lost, in every relation to the
// store.
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
		// lost is the wanted number of lost entries, 0 when nothing is to be done. Missing is a part of the
		// wanted error when the partition cannot be healed. GivenUp is the wanted number of cursors that are
		// given up.
		lost    int
		missing string
		givenUp int
	}{
		{name: "nothing was lost", run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
			s := newStory(t)
			s.change("app", create("a"))
			return s, s.held(), append(cursors(s), record.Cursor{})
		}},
		{name: "the store never had a change", run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
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
		{
			name: "the first changes of all were lost, and others were made", lost: 2,
			run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
				s := newStory(t)
				lost := s.fork()
				lost.change("app", create("a"))
				lost.change("app", create("b"))
				s.change("app", create("c"))
				s.change("app", create("d"))
				s.change("app", create("e"))
				return s, lost.held(), cursors(lost, s)
			},
		},
		{name: "entries come backwards and twice", lost: 3, run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
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
		{
			name: "entries in the middle of a lineage are not supplied", missing: "of epoch 1, revisions 2 to 3 have been seen",
			run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
				s := newStory(t)
				s.change("app", create("a"))
				lost := s.fork()
				for _, id := range []string{"b", "c", "d"} {
					lost.change("app", create(id))
				}
				return s, lost.held()[3:], cursors(lost)
			},
		},
		{
			name: "the last entries of a lineage are not supplied", missing: "of epoch 1, revisions 3 to 4 have been seen",
			run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
				s := newStory(t)
				s.change("app", create("a"))
				lost := s.fork()
				for _, id := range []string{"b", "c", "d"} {
					lost.change("app", create(id))
				}
				return s, lost.held()[:2], cursors(lost)
			},
		},
		{
			name: "another change was seen at the head's revision", missing: "a revision 1 has been seen that is not the store's",
			run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
				s := newStory(t)
				lost := s.fork()
				lost.change("app", create("b"))
				s.change("app", create("a"))
				return s, nil, cursors(lost)
			},
		},
		{name: "two lineages with a common beginning", lost: 3, run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
			s := newStory(t)
			s.change("app", create("a"))
			one := s.fork()
			one.change("app", create("b"))
			other := one.fork()
			one.change("app", create("c"))
			other.change("other", create("d"))
			return s, append(other.held(), one.held()...), cursors(one, other)
		}},
		{name: "a seen cursor is from before the trimmed log", run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
			s := newStory(t)
			for _, id := range []string{"b", "c", "d", "e"} {
				s.change("app", create(id))
			}
			entries, old := s.held(), s.held()[0].Cursor
			s.log = s.log[2:]
			return s, entries, []record.Cursor{old}
		}},
		{name: "the log is missing, and nothing was lost", run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
			s := newStory(t)
			s.change("app", create("a"))
			s.change("app", create("b"))
			s.log = nil
			return s, s.held(), []record.Cursor{s.held()[0].Cursor, s.head.Cursor}
		}},
		{name: "the log has a hole, and nothing was lost", run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
			s := newStory(t)
			for _, id := range []string{"b", "c", "d", "e"} {
				s.change("app", create(id))
			}
			s.log = append(s.log[:1], s.log[3:]...)
			return s, s.held(), cursors(s)
		}},
		{
			name: "the log has a hole, and only an entry from the hole is supplied",
			run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
				s := newStory(t)
				for _, id := range []string{"b", "c", "d", "e"} {
					s.change("app", create(id))
				}
				s.log = append(s.log[:1], s.log[3:]...)
				return s, s.held()[1:2], cursors(s)
			},
		},
		{name: "only an entry from before the log is supplied", run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
			s := newStory(t)
			for _, id := range []string{"b", "c", "d", "e"} {
				s.change("app", create(id))
			}
			s.log = s.log[2:]
			return s, s.held()[:1], nil
		}},
		{
			name: "only an entry from before the trimmed log is supplied, and the head does not have the end of its epoch",
			run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
				s := newStory(t)
				s.change("app", create("a"))
				s.change("app", create("b"))
				for range record.MaxForks + 2 {
					s.adopt()
				}
				s.log = s.log[2:]
				return s, s.held()[:1], nil
			},
		},
		{name: "the lost change was settled before", run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
			s := newStory(t)
			lost := s.fork()
			lost.change("app", create("b"))
			s.mustHeal(lost)
			return s, lost.held(), cursors(lost, s)
		}},
		{
			name: "the lost change was settled, the log is trimmed: it is settled again", lost: 1,
			run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
				s := newStory(t)
				s.change("app", create("a"))
				lost := s.fork()
				lost.change("app", create("b"))
				s.mustHeal(lost)
				s.change("app", create("c"))
				s.log = s.log[len(s.log)-1:]
				return s, lost.held(), cursors(lost, s)
			},
		},
		{
			name: "the lost change was settled, the log is trimmed, and the start that settled it is supplied",
			run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
				s := newStory(t)
				s.change("app", create("a"))
				lost := s.fork()
				lost.change("app", create("b"))
				s.mustHeal(lost)
				s.change("app", create("c"))
				s.log = s.log[len(s.log)-1:]
				return s, append(s.held(), lost.held()...), cursors(lost, s)
			},
		},
		{
			name: "the head does not have the end of the lost change's epoch", lost: 1,
			run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
				s := newStory(t)
				s.change("app", create("a"))
				lost := s.fork()
				lost.change("app", create("b"))
				for range record.MaxForks + 2 {
					s.adopt()
				}
				return s, append(s.held(), lost.held()...), cursors(lost, s)
			},
		},
		{
			name: "lost changes after the end of their epoch, below the start of the next one", lost: 2,
			run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
				s := newStory(t)
				s.change("app", create("a"))
				lost := s.fork()
				lost.change("app", create("b"))
				lost.change("app", create("c"))
				s.take(epoch{top: record.Cursor{Epoch: 3, Revision: 9}, cause: countersignv1.EpochCause_EPOCH_CAUSE_ADOPTED, sum: s.sum})
				s.adopt()
				return s, lost.held(), cursors(lost, s)
			},
		},
		{
			name: "a lost epoch has the number of a stored one, and began at a lower revision", lost: 2,
			run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
				s := newStory(t)
				s.change("app", create("a"))
				lost := s.fork()
				begin := func(s *story, revision uint64) {
					s.take(epoch{
						top: record.Cursor{Epoch: 2, Revision: revision}, cause: countersignv1.EpochCause_EPOCH_CAUSE_ADOPTED,
						sum: s.sum,
					})
				}
				begin(lost, 4)
				lost.change("app", create("b"))
				begin(s, 9)
				s.change("app", create("c"))
				return s, lost.held(), cursors(lost, s)
			},
		},
		{
			name: "a second change of a settled lineage is supplied later", lost: 1,
			run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
				s := newStory(t)
				s.change("app", create("a"))
				lost := s.fork()
				lost.change("app", create("b"))
				s.mustHeal(lost)
				lost.change("app", create("c"))
				return s, lost.held(), cursors(lost, s)
			},
		},
		{
			name: "a seen cursor of an earlier epoch, without its links, is given up", givenUp: 1,
			run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
				s := newStory(t)
				lost := s.fork()
				lost.change("app", create("b"))
				s.adopt()
				return s, nil, cursors(lost, s)
			},
		},
		{
			name: "a change of an earlier epoch, without the change before it", lost: 1, givenUp: 0,
			run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
				s := newStory(t)
				lost := s.fork()
				lost.change("app", create("b"))
				lost.change("app", create("c"), revoked("b"))
				s.adopt()
				return s, lost.held()[1:], nil
			},
		},
		{name: "the store never had an epoch", lost: 3, run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
			s := newStory(t)
			s.change("app", create("a"))
			lost := s.fork()
			lost.change("app", create("b"))
			lost.adopt()
			lost.change("app", create("c"))
			return s, lost.held(), cursors(lost)
		}},
		{
			name: "the store never had an epoch, and its start is not supplied", missing: "of epoch 2",
			run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
				s := newStory(t)
				s.change("app", create("a"))
				lost := s.fork()
				lost.adopt()
				lost.change("app", create("b"))
				return s, lost.held()[2:], cursors(lost)
			},
		},
		{
			name: "the store never had an epoch without changes", lost: 1,
			run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
				s := newStory(t)
				s.change("app", create("a"))
				lost := s.fork()
				lost.adopt()
				return s, lost.held(), cursors(lost)
			},
		},
		{name: "the store never had a restored epoch", lost: 2, run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
			s := newStory(t)
			s.change("app", create("a"))
			lost := s.fork()
			lost.take(epoch{
				top: record.Cursor{Epoch: 2, Revision: 9}, cause: countersignv1.EpochCause_EPOCH_CAUSE_RESTORED,
				sum: lost.sum,
			})
			lost.change("app", create("b"))
			return s, lost.held(), cursors(lost)
		}},
		{name: "a healing was lost too", lost: 4, run: func(t *testing.T) (*story, []record.Entry, []record.Cursor) {
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
					t.Fatalf("got %+v, %v, want ErrIncomplete with %q", healed, err, tt.missing)
				}
				return
			}
			if err != nil || healed.Nothing != (tt.lost == 0) || healed.Lost != tt.lost || len(healed.GivenUp) != tt.givenUp {
				t.Fatalf("got %+v, %v, want %d lost changes, %d cursors given up", healed, err, tt.lost, tt.givenUp)
			}
			above := append(slices.Clone(seen), was)
			for _, e := range entries {
				above = append(above, e.Cursor)
			}
			for _, c := range above {
				if !healed.Nothing && (healed.Start.Epoch <= c.Epoch || healed.Start.Revision <= c.Revision) {
					t.Errorf("the new epoch begins at %s, want it above %s", healed.Start, c)
				}
			}
			again, err := s.heal(entries, nil, seen)
			if err != nil || !again.Nothing {
				t.Errorf("the second healing: got %+v, %v, want nothing to do", again, err)
			}
		})
	}
}

// TestSearchKnowsWhatIsDealtWithInTurn: a lost epoch has settled a change that no process holds. A later lost
// epoch has settled the start of that epoch. The entry that follows the change still counts as lost.
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
		t.Error("the late change is not among the lost entries")
	}
}

// TestSearchGoesOnBehindWhatIsDealtWith: a lost epoch has settled a change in the middle of another lost
// lineage. The supplied entries before that change count as lost too.
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
			t.Errorf("the entry %q is not among the lost entries", name)
		}
	}
}

// TestSinceIsOldestFirst: the store's changes of an app come in the order in which they were made. What two
// histories have in common is found by that order (see loss.apart).
func TestSinceIsOldestFirst(t *testing.T) {
	s := newStory(t)
	s.change("app", create("a"))
	fork := s.head.Cursor
	for _, id := range []string{"b", "c", "d"} {
		s.change("other", create(id))
		s.change("app", create(id))
	}
	k := s.known()
	links, told := k.since(s.documents["app"], fork, nil)
	var got []string
	for _, link := range links {
		got = append(got, link.Upserts[0].ID)
	}
	if !told || !slices.Equal(got, []string{"b", "c", "d"}) {
		t.Errorf("got the changes of %v, told %t; want b, c, d, told", got, told)
	}
}
