package rules_test

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/services/authority/internal/rules"
)

// life is an app over years of calls, with everything that it must remember.
type life struct {
	doc *record.Document
	now time.Time
	// past has every input document with a copy.
	past [][2]*record.Document
	// revoked has every digest that was ever revoked, scoped every token that ever had scopes.
	revoked map[secret.Digest]bool
	scoped  map[string]bool
	serial  int
}

func (l *life) by() rules.By { return rules.By{Identity: "ada", Now: l.now} }

// call makes one call, and checks what must hold after every call. It tells whether the document changed.
func (l *life) call(t *rapid.T, allowed bool, call func(*record.Document, rules.By) (*record.Document, error)) bool {
	before := l.doc
	l.past = append(l.past, [2]*record.Document{before, clone(before)})
	after, err := call(before, l.by())
	if err != nil || after == nil {
		if after != nil {
			t.Fatalf("a document came with the error %v", err)
		}
		return false
	}
	after.AppID = app
	if !allowed {
		l.checkLockout(t, before, after)
	}
	l.doc = after
	l.check(t)
	return true
}

// checkLockout: without allow_lockout, no call takes the last token from an enforced scope, at the time of
// the call or later (B16). Between the ends of tokens and of the trial nothing changes by itself, so it
// checks at these times.
func (l *life) checkLockout(t *rapid.T, before, after *record.Document) {
	now := l.now.UnixMilli()
	if before == nil {
		return
	}
	old, new := policyOf(t, before), policyOf(t, after)
	for _, at := range slices.Concat(endsIn(before), endsIn(after), []int64{now, after.Enforcement.TrialEndMillis}) {
		if at < now {
			continue
		}
		enforced := after.Enforcement.Ever(at)
		if bare := new.Uncovered(enforced, at).Without(old.Uncovered(enforced, at)); bare != 0 {
			t.Fatalf("scopes %b lost their last token at %d:\nbefore %+v\nafter %+v", bare, at, before, after)
		}
	}
}

// checkRefusal: a call that takes away is refused only for a lockout, and only when the call itself causes it
// (B16).
func (l *life) checkRefusal(t *rapid.T, before, after *record.Document, scopes policy.ScopeSet) {
	now := l.now.UnixMilli()
	old, new := policyOf(t, before), policyOf(t, after)
	for scope := range scopes.All() {
		brought := false
		for _, at := range append(endsIn(after), now) {
			one := set(scope)
			brought = brought || at >= now && after.Enforcement.Ever(at).Has(scope) &&
				new.Uncovered(one, at) != 0 && old.Uncovered(one, at) == 0
		}
		if !brought {
			t.Fatalf("refused for a lockout of scope %d that is not its own:\nbefore %+v\nafter %+v", scope, before, after)
		}
	}
}

// endsIn returns when the tokens of a document expire.
func endsIn(d *record.Document) (when []int64) {
	for _, token := range d.Tokens {
		when = append(when, token.ExpireMillis)
	}
	return when
}

func policyOf(t *rapid.T, d *record.Document) *policy.Policy {
	p, err := d.Policy()
	if err != nil {
		t.Fatalf("the document makes no policy: %v", err)
	}
	return p
}

func (l *life) check(t *rapid.T) {
	now := l.now.UnixMilli()
	p := policyOf(t, l.doc)
	live := 0
	for _, token := range l.doc.Tokens {
		if token.State == policy.Revoked {
			l.revoked[token.Digest] = true
		}
		if l.scoped[token.ID] && token.Scopes == 0 {
			t.Fatalf("token %s was scoped and is unscoped (B05)", token.ID)
		}
		l.scoped[token.ID] = l.scoped[token.ID] || token.Scopes != 0
		if token.Scopes.Has(gdpr) {
			t.Fatalf("token %s is granted GDPR (B14)", token.ID)
		}
		state := token.StateAt(now)
		if state != policy.Active && state != policy.Disabled {
			continue
		}
		if live++; live > rules.MaxTokens {
			t.Fatalf("more than %d tokens (B01)", rules.MaxTokens)
		}
	}
	for digest := range l.revoked {
		if !p.Revokes(&policy.Token{ID: "any", Digest: digest}) {
			t.Fatalf("a revoked digest is forgotten (B08)")
		}
	}
	if l.doc.Deleted && (live != 0 || l.doc.Enforcement != policy.Enforcement{}) {
		t.Fatalf("a deleted app has %d tokens and %+v (B28)", live, l.doc.Enforcement)
	}
}

func (l *life) anyToken(t *rapid.T) string {
	if l.doc == nil || len(l.doc.Tokens) == 0 {
		return "tok_none"
	}
	return rapid.SampledFrom(l.doc.Tokens).Draw(t, "token").ID
}

var (
	grants = rapid.SampledFrom([]policy.ScopeSet{
		0, set(events), set(sessions), set(events, sessions), set(revenue), set(events, sessions, revenue), set(gdpr),
	})
	anyEnforced = rapid.SampledFrom([]policy.ScopeSet{
		0, set(events), set(sessions), set(events, revenue), set(gdpr),
		set(events, gdpr),
	})
	anyName = rapid.SampledFrom([]string{"a", "b", "c", "d"})
	// anyTime returns a time relative to the call, or 0 for none.
	anyTime = rapid.SampledFrom([]time.Duration{0, 0, -400 * day, -1, time.Millisecond, time.Hour, 10 * day, 40 * day})
)

func (l *life) draw(t *rapid.T, label string) int64 {
	d := anyTime.Draw(t, label)
	if d == 0 {
		return 0
	}
	return l.now.Add(d).UnixMilli()
}

func (l *life) create(t *rapid.T) {
	var tokens []rules.NewToken
	for range rapid.IntRange(1, 3).Draw(t, "tokens") {
		l.serial++
		n := rules.NewToken{
			ID: fmt.Sprintf("tok_%d", l.serial), Name: anyName.Draw(t, "name"), Scopes: grants.Draw(t, "scopes"),
			ExpireMillis: l.draw(t, "expiry"),
			// The choice is small, so that secrets recur.
			Digest: digest(fmt.Sprint(rapid.IntRange(0, 30).Draw(t, "secret"))),
		}
		tokens = append(tokens, n)
	}
	changed := l.call(t, false, func(d *record.Document, by rules.By) (*record.Document, error) {
		return rules.Create(d, by, tokens...)
	})
	if !changed {
		return
	}
	for _, n := range tokens {
		l.wantName(t, n.ID)
	}
}

// wantName: no other token holds a name that a call has given to a token (B01).
func (l *life) wantName(t *rapid.T, id string) {
	given := holdersOf(l.doc, l.now.UnixMilli())
	for name, ids := range given {
		if len(ids) > 1 && slices.Contains(ids, id) {
			t.Fatalf("%s was given the name %q, which %v have (B01)", id, name, ids)
		}
	}
}

// holdersOf returns, for each name, the ACTIVE and DISABLED tokens that hold it.
func holdersOf(d *record.Document, now int64) map[string][]string {
	live := map[string]record.Token{}
	next := map[string]string{}
	for _, token := range d.Tokens {
		next[token.ID] = token.SuccessorID
		if state := token.StateAt(now); state == policy.Active || state == policy.Disabled {
			live[token.ID] = token
		}
	}
	names := map[string][]string{}
	for id, token := range live {
		heir := next[id]
		for heir != "" && live[heir].ID == "" {
			heir = next[heir]
		}
		if heir == "" {
			names[token.Name] = append(names[token.Name], id)
		}
	}
	return names
}

// takesAway: whatever state the app is in, a call that takes away is refused only for a lockout (B01, B16).
func (l *life) takesAway(t *rapid.T) {
	if l.doc == nil || l.doc.Deleted {
		return
	}
	try := func(what string, call func(*record.Document, rules.By) (*record.Document, error)) {
		after, err := call(l.doc, l.by())
		if err != nil {
			t.Fatalf("%s is refused: %v\n%+v", what, err, l.doc)
		}
		if after != nil {
			policyOf(t, after)
		}
	}
	guarded := func(what string, call func(allow bool) (*record.Document, error)) {
		try(what, func(*record.Document, rules.By) (*record.Document, error) { return call(true) })
		after, err := call(false)
		switch scopes := scopesOf(err); {
		case err != nil && scopes == 0:
			t.Fatalf("%s is refused, not for a lockout: %v\n%+v", what, err, l.doc)
		case err != nil:
			after, _ = call(true)
			l.checkRefusal(t, l.doc, after, scopes)
		case after != nil:
			l.checkLockout(t, l.doc, after)
		}
	}
	for _, token := range l.doc.Tokens {
		guarded("revoke", func(allow bool) (*record.Document, error) {
			return rules.Revoke(l.doc, l.by(), allow, token.ID)
		})
		if token.State == policy.Revoked {
			continue
		}
		change := func(what string, change func(*rules.Update)) {
			u := rules.Update{TokenID: token.ID, Check: func(*record.Token) error { return nil }}
			change(&u)
			guarded(what, func(allow bool) (*record.Document, error) {
				u.AllowLockout = allow
				return u.Apply(l.doc, l.by())
			})
		}
		change("disable", func(u *rules.Update) { u.State = ptr(policy.Disabled) })
		change("expire", func(u *rules.Update) { u.ExpireMillis = ptr(int64(1)) })
		change("narrow", func(u *rules.Update) { u.Scopes = ptr(set(sessions)) })
		if at := token.EndMillis(); at == 0 || at > l.now.Add(time.Minute).UnixMilli() {
			change("expire soon", func(u *rules.Update) { u.ExpireMillis = ptr(l.now.Add(time.Minute).UnixMilli()) })
		}
	}
	if l.doc.Enforcement.Ever(l.now.UnixMilli()) == 0 {
		try("delete", rules.Delete)
	}
}

func (l *life) update(t *rapid.T) {
	u := rules.Update{
		TokenID: l.anyToken(t), AllowLockout: rapid.Bool().Draw(t, "allow"),
		Check: func(*record.Token) error { return nil },
	}
	if rapid.Bool().Draw(t, "renames") {
		u.Name = ptr(anyName.Draw(t, "name"))
	}
	if rapid.Bool().Draw(t, "grants") {
		u.Scopes = ptr(grants.Draw(t, "scopes"))
	}
	if rapid.Bool().Draw(t, "switches") {
		u.State = ptr(rapid.SampledFrom([]policy.State{policy.Active, policy.Disabled}).Draw(t, "state"))
	}
	if rapid.Bool().Draw(t, "expires") {
		u.ExpireMillis = ptr(l.draw(t, "expiry"))
	}
	before := l.nameOf(u.TokenID)
	if l.call(t, u.AllowLockout, u.Apply) && l.nameOf(u.TokenID) != before {
		l.wantName(t, u.TokenID)
	}
}

func (l *life) nameOf(id string) string {
	if l.doc == nil {
		return ""
	}
	for i := range l.doc.Tokens {
		if l.doc.Tokens[i].ID == id {
			return l.doc.Tokens[i].Name
		}
	}
	return ""
}

func (l *life) rotate(t *rapid.T) {
	l.serial++
	id, old := fmt.Sprintf("tok_%d", l.serial), l.anyToken(t)
	overlap := rapid.SampledFrom([]time.Duration{0, time.Hour, 90 * day}).Draw(t, "overlap")
	changed := l.call(t, false, func(d *record.Document, by rules.By) (*record.Document, error) {
		return rules.Rotate(d, by, old, rules.Overlap{Most: overlap}, id, secret.Mint())
	})
	if !changed {
		return
	}
	for _, token := range l.doc.Tokens {
		if token.ID == id && token.OverlapEndMillis != 0 {
			t.Fatalf("%s inherits the end of an overlap (B09): %+v", id, token)
		}
		if token.ID == id && token.PredecessorID != old || token.ID == old && token.SuccessorID != id {
			t.Fatalf("%s and %s do not name each other (B09): %+v", old, id, token)
		}
	}
}

// TestRandomLives makes random calls and checks what must always hold: B01, B05, B08, B09, B14, B16, B28, and
// that no call changes its input.
func TestRandomLives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := &life{now: now, revoked: map[secret.Digest]bool{}, scoped: map[string]bool{}}
		t.Repeat(map[string]func(*rapid.T){
			"create": l.create,
			"update": l.update,
			"rotate": l.rotate,
			"revoke": func(t *rapid.T) {
				id, allow := l.anyToken(t), rapid.Bool().Draw(t, "allow")
				l.call(t, allow, func(d *record.Document, by rules.By) (*record.Document,
					error,
				) {
					return rules.Revoke(d, by, allow, id)
				})
			},
			"enforce": func(t *rapid.T) {
				scopes, end := anyEnforced.Draw(t, "scopes"), l.draw(t, "trial")
				changed := l.call(t, true, func(d *record.Document, by rules.By) (*record.Document, error) {
					return rules.Enforce(d, by, app, scopes, end)
				})
				if !changed {
					return
				}
				if bare := policyOf(t, l.doc).Uncovered(scopes, l.now.UnixMilli()); bare != 0 {
					t.Fatalf("scopes %b are enforced without a token (B12)", bare)
				}
			},
			"delete": func(t *rapid.T) {
				l.call(t, false, rules.Delete)
			},
			"wait": func(t *rapid.T) {
				l.takesAway(t)
				l.now = l.now.Add(rapid.SampledFrom([]time.Duration{time.Millisecond, time.Hour, 10 * day, 40 * day}).Draw(t, "time"))
			},
		})
		l.takesAway(t)
		for _, pair := range l.past {
			if !reflect.DeepEqual(pair[0], pair[1]) {
				t.Fatalf("a document that was handed in was changed:\n got %+v\nwant %+v", pair[0], pair[1])
			}
		}
	})
}
