package store

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/secret"
)

// player makes random changes within the rules: no revocation is undone, and no active token has the name of
// another one.
type player struct {
	t     *rapid.T
	ids   int
	label int
}

var playground = []string{"one", "two", "three"}

func (p *player) draw(n int) int {
	p.label++
	return rapid.IntRange(0, n-1).Draw(p.t, fmt.Sprint(p.label))
}

// play makes one change.
func (p *player) play(s *story) {
	app := playground[p.draw(len(playground))]
	var held []record.Token
	if d := s.documents[app]; d != nil {
		held = d.Tokens
	}
	p.ids++
	fresh := func(d *record.Document) {
		t := token(fmt.Sprint("t", p.ids))
		t.Name = fmt.Sprint("name ", p.draw(4)) // few names, so that two sides often choose the same
		t.Digest = secret.DigestOf(fmt.Sprint(p.draw(30)))
		taken := func(has record.Token) bool {
			return has.Digest == t.Digest || has.Name == t.Name && has.State != policy.Revoked
		}
		if !slices.ContainsFunc(d.Tokens, taken) {
			d.Tokens = append(d.Tokens, t)
		}
	}
	if len(held) == 0 {
		s.change(app, fresh)
		return
	}
	one := held[p.draw(len(held))]
	alive := func(t *record.Token, change func()) {
		if t.State != policy.Revoked {
			change()
		}
	}
	switch p.draw(7) {
	case 0, 1:
		s.change(app, fresh)
	case 2:
		s.change(app, with(one.ID, func(t *record.Token) { t.State = policy.Revoked }))
	case 3:
		s.change(app, with(one.ID, func(t *record.Token) { alive(t, func() { t.State = policy.Disabled }) }))
	case 4:
		s.change(app, with(one.ID, func(t *record.Token) { alive(t, func() { t.Name = fmt.Sprint("renamed ", p.ids) }) }))
	case 5:
		s.change(app, enforced(policy.Scope(1+p.draw(3))))
	case 6:
		s.change(app, func(d *record.Document) {
			d.Deleted = !d.Deleted
			for i := range d.Tokens {
				d.Tokens[i].State = policy.Revoked
			}
		})
	}
}

// checkDocument checks the invariants of any document.
func checkDocument(t *rapid.T, d *record.Document) {
	if _, err := d.Policy(); err != nil {
		t.Fatalf("%s: %v", d.AppID, err)
	}
	names := map[string]bool{}
	for _, token := range d.Tokens {
		if token.TouchedRevision > d.Revision {
			t.Fatalf("%s of %s was touched at %d, after %d", token.ID, d.AppID, token.TouchedRevision, d.Revision)
		}
		if token.State == policy.Revoked {
			continue
		}
		if names[token.Name] {
			t.Fatalf("%s has two tokens of the name %q", d.AppID, token.Name)
		}
		names[token.Name] = true
	}
}

// TestHealKeepsWhatMatters: a random history forks into the store's and a lost one, which may fork once more.
// The lost entries are supplied in any order. A revocation of any side stays. An app that only the lost side
// changed is as on that side. An app that only the store changed is not touched.
func TestHealKeepsWhatMatters(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := &player{t: t}
		s := newStory(t)
		if p.draw(2) == 0 {
			s.underOldKey()
		}
		key := s.head.State.Key
		for range p.draw(12) {
			p.play(s)
		}
		base := s.fork()
		sides := []*story{s.fork()}
		for range p.draw(8) {
			p.play(sides[0])
		}
		if p.draw(3) == 0 {
			sides = append(sides, sides[0].fork())
			for range p.draw(4) {
				p.play(sides[0])
			}
			for range p.draw(4) {
				p.play(sides[1])
			}
		}
		for range p.draw(8) {
			p.play(s)
		}
		store := s.fork()
		if from := p.draw(4); from > 0 && uint64(len(s.log)) > base.head.Revision {
			s.log = s.log[min(from, int(base.head.Revision)):] // trimmed, but not past the fork
		}
		var entries []record.Entry
		var seen []record.Cursor
		var sticky []replica.Sticky
		for _, side := range sides {
			entries, seen = append(entries, side.held()...), append(seen, side.head.Cursor)
			for app, d := range side.documents {
				for _, token := range d.Tokens {
					if token.State == policy.Revoked && p.draw(3) == 0 {
						sticky = append(sticky, replica.Sticky{AppID: app, Token: token.Token})
					}
				}
			}
		}
		for i := range entries {
			j := p.draw(i + 1)
			entries[i], entries[j] = entries[j], entries[i]
		}
		was := map[string]*record.Document{}
		for app, d := range s.documents {
			own := *d
			own.Tokens = slices.Clone(d.Tokens)
			was[app] = &own
		}
		healed, err := s.heal(entries, sticky, seen)
		if err != nil {
			t.Fatal(err)
		}

		if !reflect.DeepEqual(store.documents, was) {
			t.Fatal("the store's documents were changed in place")
		}
		if s.head.State.Key != key {
			t.Fatalf("the sum is under key %q, and was under %q", s.head.State.Key, key)
		}
		changed := func(by *story, app string) bool { return by.documents[app] != base.documents[app] }
		for _, app := range playground {
			got := s.documents[app]
			if got != nil {
				checkDocument(t, got)
			}
			for _, side := range append([]*story{store}, sides...) {
				if side.documents[app] == nil {
					continue
				}
				for _, token := range side.documents[app].Tokens {
					if token.State != policy.Revoked {
						continue
					}
					if now := find(got, token.Digest); now == nil || now.State != policy.Revoked {
						t.Fatalf("%s of %s was revoked, and is %+v", token.ID, app, now)
					}
				}
			}
			switch byStore, byLost := changed(store, app), changed(sides[0], app); {
			case len(sides) > 1 && changed(sides[1], app) && !reflect.DeepEqual(sides[0].documents[app], sides[1].documents[app]):
			case byLost && !byStore && !same(got, sides[0].documents[app]):
				t.Fatalf("%s was changed on the lost side alone, to %+v; it is %+v", app, sides[0].documents[app], got)
			case !byLost && !reflect.DeepEqual(got, store.documents[app]):
				t.Fatalf("%s was not changed on the lost side: it was %+v, it is %+v", app, store.documents[app], got)
			}
		}
		lost := map[record.Tag]bool{}
		for _, e := range entries {
			if _, had := store.entries[e.Tag]; !had {
				lost[e.Tag] = true
			}
		}
		if healed.Lost != len(lost) {
			t.Fatalf("%d changes were lost, %d are settled", len(lost), healed.Lost)
		}
		again, err := s.heal(entries, sticky, seen)
		if err != nil || !again.Nothing {
			t.Fatalf("the second healing: got %+v, %v, want nothing to do", again, err)
		}
	})
}

// same reports whether two documents differ only in cursors and times.
func same(a, b *record.Document) bool {
	if a == nil || b == nil {
		return a == b
	}
	x, y := *a, *b
	x.Cursor, x.UpdateMillis, y.Cursor, y.UpdateMillis = record.Cursor{}, 0, record.Cursor{}, 0
	return reflect.DeepEqual(x, y)
}

func find(d *record.Document, digest secret.Digest) *record.Token {
	if d == nil {
		return nil
	}
	i := slices.IndexFunc(d.Tokens, func(t record.Token) bool { return t.Digest == digest })
	if i < 0 {
		return nil
	}
	return &d.Tokens[i]
}
