package merge

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
)

// history is one history of an app: its latest document, and what it has changed since the shared state.
type history struct {
	document *record.Document
	touched  Touched
}

// side returns the changes of a history, as merge.Into gets them from its links.
func (p *history) side() Side {
	var s Side
	for _, t := range p.document.Tokens {
		if p.touched.Tokens[t.ID] {
			s.Tokens = append(s.Tokens, t)
		}
	}
	if p.touched.Settings {
		s.Settings = &Settings{p.document.Enforcement, p.document.Deleted}
	}
	return s
}

// divergence draws a shared state and two histories that begin with it.
func divergence(t *rapid.T) (base *record.Document, a, b history) {
	scopes := rapid.SampledFrom([]policy.ScopeSet{0, one, two, one | two, two | three, three})
	millis := rapid.SampledFrom([]int64{0, 10, 20, 30})
	enforcement := func(label string) policy.Enforcement {
		return policy.Enforcement{
			Scopes: scopes.Draw(t, label), TrialEndMillis: millis.Draw(t, label+" end"), After: scopes.Draw(t, label+" after"),
		}
	}
	// No history gives a name twice, but both may give the same name.
	change := func(label string, tok record.Token, name string) record.Token {
		if tok.State != policy.Revoked {
			tok.State = rapid.SampledFrom([]policy.State{active, disabled, revoked}).Draw(t, label+" state")
		}
		tok.Scopes, tok.ExpireMillis = scopes.Draw(t, label+" scopes"), millis.Draw(t, label+" expiry")
		if rapid.Bool().Draw(t, label+" two ends") {
			overlapEnd, now := millis.Draw(t, label+" overlap end"), rapid.SampledFrom([]int64{0, 10}).Draw(t, label+" now")
			tok.SetEnd(tok.ExpireMillis, overlapEnd, now)
		}
		tok.Name = rapid.SampledFrom([]string{name, name + " (2)"}).Draw(t, label+" name")
		tok.UpdateMillis = int64(rapid.IntRange(1, 3).Draw(t, label+" updated"))
		return tok
	}
	base = &record.Document{Enforcement: enforcement("base"), Cursor: record.Cursor{Epoch: 1, Revision: 5}}
	for i := range rapid.IntRange(0, 4).Draw(t, "tokens") {
		tok := token(fmt.Sprint("t", i), made(int64(i)))
		base.Tokens = append(base.Tokens, change(fmt.Sprint("base ", i), tok, fmt.Sprint("key ", i)))
	}
	diverge := func(label string) history {
		own := *base
		own.Tokens = slices.Clone(base.Tokens)
		p := history{document: &own}
		for i := range own.Tokens {
			if rapid.Bool().Draw(t, fmt.Sprint(label, i)) {
				own.Tokens[i] = change(fmt.Sprint(label, " ", i), own.Tokens[i], fmt.Sprint("key ", i))
				p.touched.Add(own.Tokens[i].ID)
			}
		}
		for i := range rapid.IntRange(0, 2).Draw(t, label+" made") {
			id := fmt.Sprint(label, i)
			own.Tokens = append(own.Tokens, change(label+" new "+id, token(id, made(int64(10+i))), fmt.Sprint("new ", i)))
			p.touched.Add(id)
		}
		if p.touched.Settings = rapid.Bool().Draw(t, label+" settings"); p.touched.Settings {
			own.Enforcement = enforcement(label)
			if rapid.IntRange(0, 3).Draw(t, label+" deleted") == 0 {
				own.Enforcement, own.Deleted = policy.Enforcement{}, true
				for i := range own.Tokens {
					own.Tokens[i].State = revoked
					p.touched.Add(own.Tokens[i].ID)
				}
			}
		}
		return p
	}
	return base, diverge("a"), diverge("b")
}

func tokenOf(d *record.Document, id string) *record.Token {
	if i := slices.IndexFunc(d.Tokens, func(t record.Token) bool { return t.ID == id }); i >= 0 {
		return &d.Tokens[i]
	}
	return nil
}

// content returns the content of a document for comparison, without the order of tokens and their revisions.
func content(d *record.Document) any {
	tokens := slices.Clone(d.Tokens)
	for i := range tokens {
		tokens[i].TouchedRevision = 0
	}
	slices.SortFunc(tokens, func(a, b record.Token) int { return strings.Compare(a.ID, b.ID) })
	return []any{tokens, d.Enforcement, d.Deleted}
}

// times are the times at which a drawn value may change, and the milliseconds around them.
var times = []int64{0, 9, 10, 11, 19, 20, 21, 29, 30, 31}

// TestB30_MergeKeepsAndDenies: for any two histories of any state
//
//   - the merge does not depend on which is merged into which, and merging again changes nothing,
//   - no token is lost, and no revocation is undone,
//   - a token that only one history changed is as in that history,
//   - where both changed a token or the settings, the merge denies at any time everything that either denies.
func TestB30_MergeKeepsAndDenies(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base, a, b := divergence(t)
		before := content(a.document)
		merged, givenUp := Into(a.document, a.touched, b.side())
		other, _ := Into(b.document, b.touched, a.side())
		if !reflect.DeepEqual(content(merged), content(other)) {
			t.Fatalf("into a: %+v\ninto b: %+v", content(merged), content(other))
		}
		if !reflect.DeepEqual(content(a.document), before) {
			t.Fatal("the document was changed in place")
		}
		if _, err := merged.Policy(); err != nil {
			t.Fatal(err)
		}
		if !a.touched.Any() && !reflect.DeepEqual(content(merged), content(b.document)) {
			t.Fatalf("b alone changed the app, to %+v; got %+v", content(b.document), content(merged))
		}
		same, conflicts := Into(a.document, a.touched, a.side())
		if !reflect.DeepEqual(content(same), content(a.document)) && !a.document.Deleted {
			t.Fatalf("merged with itself it is %+v, was %+v (%v)", content(same), content(a.document), conflicts)
		}
		if len(givenUp) > 0 && !a.touched.Any() {
			t.Fatalf("given up %+v", givenUp)
		}
		taken := map[string]bool{}
		for _, next := range merged.Tokens {
			if next.State != revoked && taken[next.Name] {
				t.Fatalf("two tokens have the name %q: %+v", next.Name, merged.Tokens)
			}
			taken[next.Name] = taken[next.Name] || next.State != revoked
		}
		for _, p := range []history{a, b} {
			q := b
			if p.document == b.document {
				q = a
			}
			for i := range p.document.Tokens {
				had := &p.document.Tokens[i]
				got := tokenOf(merged, had.ID)
				switch {
				case got == nil:
					t.Fatalf("%s is lost", had.ID)
				case had.State == revoked && got.State != revoked:
					t.Fatalf("%s is no longer revoked", had.ID)
				case p.touched.Tokens[had.ID] && q.touched.Tokens[had.ID]:
					for s := range (one | two | three | 1<<policy.ScopeGDPR).All() {
						for _, at := range times {
							if got.Authenticates(s, at) && !had.Authenticates(s, at) {
								t.Fatalf("%+v authenticates %d at %d, %+v did not", got, s, at, had)
							}
						}
					}
				case p.touched.Tokens[had.ID] &&
					(got.State != had.State || got.Scopes != had.Scopes || got.ExpireMillis != had.ExpireMillis):
					if base := tokenOf(base, had.ID); base == nil || base.State != revoked {
						t.Fatalf("%+v was changed by one history alone, and is %+v", had, got)
					}
				}
			}
			if a.touched.Settings && b.touched.Settings {
				for _, at := range times {
					missing := p.document.Enforcement.At(at).Without(merged.Enforcement.At(at))
					if missing != 0 || merged.Deleted && !p.document.Deleted {
						t.Fatalf("%b is no longer enforced at %d, deleted: %t", missing, at, merged.Deleted)
					}
				}
			}
		}
	})
}
