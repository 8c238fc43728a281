package merge

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/secret"
)

const (
	active, disabled, revoked = policy.Active, policy.Disabled, policy.Revoked

	one, two, three = policy.ScopeSet(1 << 1), policy.ScopeSet(1 << 2), policy.ScopeSet(1 << 3)
)

func token(id string, changes ...func(*record.Token)) record.Token {
	t := record.Token{
		Token: policy.Token{ID: id, Digest: secret.DigestOf(id), State: active, Scopes: one | two},
		Name:  "name of " + id, TouchedRevision: 1,
	}
	for _, change := range changes {
		change(&t)
	}
	return t
}

func state(s policy.State) func(*record.Token)     { return func(t *record.Token) { t.State = s } }
func scopes(s policy.ScopeSet) func(*record.Token) { return func(t *record.Token) { t.Scopes = s } }
func expires(millis int64) func(*record.Token) {
	return func(t *record.Token) { t.ExpireMillis = millis }
}
func named(name string) func(*record.Token) { return func(t *record.Token) { t.Name = name } }
func made(millis int64) func(*record.Token) { return func(t *record.Token) { t.CreateMillis = millis } }

func updated(millis int64) func(*record.Token) {
	return func(t *record.Token) { t.UpdateMillis = millis }
}

func touchedAt(revision uint64) func(*record.Token) {
	return func(t *record.Token) { t.TouchedRevision = revision }
}

// TestB30_Tokens: one token, as our history has it and as theirs has changed it.
func TestB30_Tokens(t *testing.T) {
	base := token("t")
	for _, tt := range []struct {
		name         string
		ours, theirs record.Token
		// alone says that our history did not change it.
		alone   bool
		want    record.Token
		givenUp string // fields, in order
	}{
		{
			name: "their change alone", alone: true, ours: base, theirs: token("t", named("x"), touchedAt(7)),
			want: token("t", named("x"), touchedAt(7)),
		},
		{
			name: "their widening alone", alone: true, ours: base, theirs: token("t", scopes(one|two|three)),
			want: token("t", scopes(one|two|three)),
		},
		{
			name: "a revocation stays, though they alone changed it", alone: true, ours: token("t", state(revoked)),
			theirs: token("t", touchedAt(7)), want: token("t", state(revoked)), givenUp: "state",
		},
		{
			name: "revoked over disabled", ours: token("t", state(disabled)), theirs: token("t", state(revoked)),
			want: token("t", state(revoked), touchedAt(TouchedNow)), givenUp: "state",
		},
		{
			name: "disabled over active", ours: token("t", state(disabled), named("x"), touchedAt(5)),
			theirs: token("t", named("y"), updated(9), touchedAt(6)), want: token("t", state(disabled), named("x"), touchedAt(5)),
			givenUp: "state name",
		},
		{
			name: "the earlier expiry", ours: token("t", expires(9)), theirs: token("t", expires(5)),
			want: token("t", expires(5), touchedAt(TouchedNow)), givenUp: "expire_time",
		},
		{
			name: "an expiry over none", ours: token("t", expires(9), touchedAt(2)), theirs: base,
			want: token("t", expires(9), touchedAt(2)), givenUp: "expire_time",
		},
		{
			name: "the narrower scopes", ours: token("t", scopes(one|two|three)), theirs: token("t", scopes(two)),
			want: token("t", scopes(two), touchedAt(TouchedNow)), givenUp: "scopes",
		},
		{
			name: "what both grant", ours: token("t", scopes(one|two)), theirs: token("t", scopes(two|three)),
			want: token("t", scopes(two), touchedAt(TouchedNow)), givenUp: "scopes scopes",
		},
		{
			name: "scopes over none, which are all (B05)", ours: token("t", scopes(0)), theirs: token("t", scopes(two)),
			want: token("t", scopes(two), touchedAt(TouchedNow)), givenUp: "scopes",
		},
		{
			name: "no scope in common is not unscoped (B05)", ours: token("t", scopes(one)), theirs: token("t", scopes(two)),
			want: token("t", scopes(one), state(disabled), touchedAt(TouchedNow)), givenUp: "state state scopes",
		},
		{
			name: "each denies something", ours: token("t", state(disabled), updated(1)),
			theirs:  token("t", expires(5), named("x"), updated(2)),
			want:    token("t", state(disabled), expires(5), named("x"), updated(2), touchedAt(TouchedNow)),
			givenUp: "expire_time name state",
		},
		{
			name: "the later name", ours: token("t", named("x"), updated(1)), theirs: token("t", named("y"), updated(2)),
			want: token("t", named("y"), updated(2), touchedAt(TouchedNow)), givenUp: "name",
		},
		{
			name: "the same change", ours: token("t", named("x"), touchedAt(5)), theirs: token("t", named("x"), touchedAt(5)),
			want: token("t", named("x"), touchedAt(5)),
		},
		{
			name: "an etag of theirs is none of ours", ours: token("t", state(disabled), touchedAt(5)),
			theirs: token("t", touchedAt(5)), want: token("t", state(disabled), touchedAt(TouchedNow)), givenUp: "state",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			touched := Touched{All: !tt.alone}
			got, givenUp := Into(&record.Document{Tokens: []record.Token{tt.ours}}, touched, Side{Tokens: []record.Token{tt.theirs}})
			if len(got.Tokens) != 1 || got.Tokens[0] != tt.want {
				t.Errorf("got  %+v\nwant %+v", got.Tokens, tt.want)
			}
			var fields []string
			for _, g := range givenUp {
				fields = append(fields, g.Field)
				if g.TokenID != "t" || g.Kept == g.Lost {
					t.Errorf("given up %+v", g)
				}
			}
			if strings.Join(fields, " ") != tt.givenUp {
				t.Errorf("given up %q, want %q", fields, tt.givenUp)
			}
		})
	}
}

// TestB30_Settings: settings that one history or both have changed.
func TestB30_Settings(t *testing.T) {
	set := func(scopes policy.ScopeSet, trialEnd int64, after policy.ScopeSet) policy.Enforcement {
		return policy.Enforcement{Scopes: scopes, TrialEndMillis: trialEnd, After: after}
	}
	for _, tt := range []struct {
		name         string
		ours         Settings
		theirs       *Settings
		touched      bool
		tokens       []record.Token
		want         Settings
		givenUpCount int
	}{
		{
			name: "they did not change them", ours: Settings{Enforcement: set(one, 0, 0)}, touched: true,
			want: Settings{Enforcement: set(one, 0, 0)},
		},
		{name: "they alone switched off", ours: Settings{Enforcement: set(one, 0, 0)}, theirs: &Settings{}, want: Settings{}},
		{
			name: "both: the union", ours: Settings{Enforcement: set(one, 0, 0)}, theirs: &Settings{Enforcement: set(two, 0, 0)},
			touched: true, want: Settings{Enforcement: set(one|two, 0, 0)}, givenUpCount: 2,
		},
		{
			name: "both: on over off", ours: Settings{}, theirs: &Settings{Enforcement: set(two, 0, 0)}, touched: true,
			want: Settings{Enforcement: set(two, 0, 0)}, givenUpCount: 1,
		},
		{
			name: "a trial and one for good", ours: Settings{Enforcement: set(one, 50, 0)},
			theirs: &Settings{Enforcement: set(two, 0, 0)}, touched: true, want: Settings{Enforcement: set(one|two, 50, two)},
			givenUpCount: 2,
		},
		{
			name: "two trials of one end", ours: Settings{Enforcement: set(one, 50, two)},
			theirs: &Settings{Enforcement: set(two, 50, three)}, touched: true,
			want: Settings{Enforcement: set(one|two, 50, two|three)}, givenUpCount: 2,
		},
		{
			name: "two trials of two ends", ours: Settings{Enforcement: set(one, 50, two)},
			theirs: &Settings{Enforcement: set(three, 90, 0)}, touched: true,
			want: Settings{Enforcement: set(one|two|three, 90, two)}, givenUpCount: 2,
		},
		{name: "they alone deleted the app", theirs: &Settings{Deleted: true}, want: Settings{Deleted: true}},
		{
			name: "they deleted what we enforce", ours: Settings{Enforcement: set(one, 0, 0)}, theirs: &Settings{Deleted: true},
			touched: true, want: Settings{Enforcement: set(one, 0, 0)}, givenUpCount: 2,
		},
		{
			name: "they deleted an app in which we made a token", theirs: &Settings{Deleted: true},
			tokens: []record.Token{token("new")}, want: Settings{}, givenUpCount: 1,
		},
		{
			name: "both deleted it", ours: Settings{Deleted: true}, theirs: &Settings{Deleted: true}, touched: true,
			want: Settings{Deleted: true},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ours := &record.Document{Enforcement: tt.ours.Enforcement, Deleted: tt.ours.Deleted, Tokens: tt.tokens}
			touched := Touched{Settings: tt.touched}
			for i := range tt.tokens {
				touched.Add(tt.tokens[i].ID)
			}
			got, givenUp := Into(ours, touched, Side{Settings: tt.theirs})
			if (Settings{got.Enforcement, got.Deleted}) != tt.want || len(givenUp) != tt.givenUpCount {
				t.Errorf("got %+v %t, given up %+v", got.Enforcement, got.Deleted, givenUp)
			}
		})
	}
}

// TestB30_Names: when both histories have given one name to different tokens, both tokens stay and one is
// renamed. A name that one history gave twice, by a rotation, stays (B01).
func TestB30_Names(t *testing.T) {
	successor := func(id, of string) record.Token {
		return token(id, named("key"), made(5), func(t *record.Token) { t.PredecessorID = of })
	}
	for _, tt := range []struct {
		name    string
		ours    []record.Token
		touched []string
		theirs  []record.Token
		want    map[string]string
	}{
		{
			name: "both made one", ours: []record.Token{token("a", named("key"), made(2))}, touched: []string{"a"},
			theirs: []record.Token{token("b", named("key"), made(1))}, want: map[string]string{"a": "key (2)", "b": "key"},
		},
		{
			name: "the other name is taken too", touched: []string{"a"},
			ours:   []record.Token{token("a", named("key"), made(2)), token("c", named("key (2)"))},
			theirs: []record.Token{token("b", named("key"), made(1))},
			want:   map[string]string{"a": "key (3)", "b": "key", "c": "key (2)"},
		},
		{
			name: "a revoked one has no name to defend", touched: []string{"a"},
			ours:   []record.Token{token("a", named("key"), state(revoked))},
			theirs: []record.Token{token("b", named("key"))}, want: map[string]string{"a": "key", "b": "key"},
		},
		{
			name: "they rotated a token that we changed", touched: []string{"a"},
			ours:   []record.Token{token("a", named("key"), updated(9))},
			theirs: []record.Token{successor("b", "a")}, want: map[string]string{"a": "key", "b": "key"},
		},
		{
			name: "both rotated it", ours: []record.Token{token("a", named("key")), successor("b", "a")}, touched: []string{"a", "b"},
			theirs: []record.Token{token("a", named("key")), successor("c", "a")},
			want:   map[string]string{"a": "key", "b": "key", "c": "key (2)"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var touched Touched
			for _, id := range tt.touched {
				touched.Add(id)
			}
			got, _ := Into(&record.Document{Tokens: tt.ours}, touched, Side{Tokens: tt.theirs})
			names := map[string]string{}
			for _, t := range got.Tokens {
				names[t.ID] = t.Name
			}
			if !maps.Equal(names, tt.want) {
				t.Errorf("got %v, want %v", names, tt.want)
			}
		})
	}
	got := numbered(strings.Repeat("ü", 100), 12)
	if utf8.RuneCountInString(got) != 100 || !strings.HasSuffix(got, "ü (12)") {
		t.Errorf("got %q", got)
	}
}

// TestB30_Identity: two tokens with one secret become one. Two tokens with one id stay two. A token that one
// history removed is removed unless the other one changed it.
func TestB30_Identity(t *testing.T) {
	same := func(t *record.Token) { t.Digest = secret.DigestOf("same") }
	for _, tt := range []struct {
		name    string
		ours    []record.Token
		touched Touched
		side    Side
		want    map[string]policy.State
	}{
		{
			name: "one secret", ours: []record.Token{token("b", same)},
			side: Side{Tokens: []record.Token{token("a", same, state(revoked))}}, want: map[string]policy.State{"a": revoked},
		},
		{
			name: "one id", ours: []record.Token{token("a")}, side: Side{Tokens: []record.Token{token("a", same)}},
			want: map[string]policy.State{"a": active, IDOf(secret.DigestOf("same")): active},
		},
		{
			name: "they removed it", ours: []record.Token{token("a"), token("b")}, side: Side{Removed: []string{"a"}},
			want: map[string]policy.State{"b": active},
		},
		{
			name: "they removed what we changed", ours: []record.Token{token("a")}, touched: Touched{All: true},
			side: Side{Removed: []string{"a"}}, want: map[string]policy.State{"a": active},
		},
		{
			name: "we removed what they changed", touched: Touched{Tokens: map[string]bool{"a": true}},
			side: Side{Tokens: []record.Token{token("a")}}, want: map[string]policy.State{"a": active},
		},
		{
			name: "a revoked one is never removed (B08)", ours: []record.Token{token("a", state(revoked))},
			side: Side{Removed: []string{"a"}}, want: map[string]policy.State{"a": revoked},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := &record.Document{Tokens: slices.Clone(tt.ours)}
			got, _ := Into(before, tt.touched, tt.side)
			states := map[string]policy.State{}
			for _, t := range got.Tokens {
				states[t.ID] = t.State
			}
			if _, err := got.Policy(); err != nil || !maps.Equal(states, tt.want) || !slices.Equal(before.Tokens, tt.ours) {
				t.Errorf("got %v, %v", states, err)
			}
		})
	}
}

// TestB30_Memory: a digest that either history remembers is remembered, and no token with it authenticates
// (B08).
func TestB30_Memory(t *testing.T) {
	remember := func(ids ...string) (m policy.Memory) {
		for _, id := range ids {
			m = m.With(token(id).Token)
		}
		return m
	}
	for _, tt := range []struct {
		name        string
		ours        []record.Token
		ourMemory   policy.Memory
		side        Side
		wantMemory  policy.Memory
		want        map[string]policy.State
		wantGivenUp int
	}{
		{
			name: "both remember", ourMemory: remember("a"), side: Side{Memory: remember("b")}, wantMemory: remember("a", "b"),
			want: map[string]policy.State{},
		},
		{
			name: "theirs remembers what ours lists", ours: []record.Token{token("a", state(revoked))},
			side: Side{Removed: []string{"a"}, Memory: remember("a")}, wantMemory: remember("a"), want: map[string]policy.State{},
		},
		{
			name: "ours remembers what theirs lists", ourMemory: remember("a"),
			side:       Side{Tokens: []record.Token{token("a", state(revoked))}},
			wantMemory: remember("a"), want: map[string]policy.State{},
		},
		{
			name: "one that works is revoked", ours: []record.Token{token("a")}, side: Side{Memory: remember("a")},
			wantMemory: remember("a"), want: map[string]policy.State{"a": revoked}, wantGivenUp: 1,
		},
		{
			name: "others stay", ours: []record.Token{token("b", state(revoked))}, side: Side{Memory: remember("a")},
			wantMemory: remember("a"), want: map[string]policy.State{"b": revoked},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, givenUp := Into(&record.Document{Tokens: tt.ours, Memory: tt.ourMemory}, Touched{All: true}, tt.side)
			states := map[string]policy.State{}
			for _, t := range got.Tokens {
				states[t.ID] = t.State
			}
			if got.Memory != tt.wantMemory || !maps.Equal(states, tt.want) || len(givenUp) != tt.wantGivenUp {
				t.Errorf("got %v, %v, given up %v", states, got.Memory, givenUp)
			}
		})
	}
}

// TestB30_Ends: the earlier own expiry and the earlier end of the overlap count, each by itself (B09).
func TestB30_Ends(t *testing.T) {
	ends := func(expire, own, overlap int64, successor string) record.Token {
		return token("t", func(t *record.Token) {
			t.ExpireMillis, t.OwnExpireMillis, t.OverlapEndMillis, t.SuccessorID = expire, own, overlap, successor
		})
	}
	for _, tt := range []struct {
		name                 string
		ours, theirs         record.Token
		expire, own, overlap int64
	}{
		{"an overlap and an own expiry", ends(5, 0, 5, "s"), ends(9, 9, 0, ""), 5, 9, 5},
		{"ended at once", ends(policy.Ended, 5, 0, ""), ends(0, 0, 0, ""), policy.Ended, 5, 0},
		{"ended at once, without a time", ends(0, 0, 0, ""), ends(policy.Ended, 0, 0, ""), policy.Ended, 0, 0},
		{"a record with one time for both", ends(5, 0, 0, "s"), ends(9, 9, 0, "s"), 5, 9, 5},
		{"of a token that was not rotated", ends(5, 0, 0, ""), ends(9, 9, 0, ""), 5, 5, 0},
		{"two such records", ends(5, 0, 0, "s"), ends(9, 0, 0, "s"), 5, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, pair := range [][2]record.Token{{tt.ours, tt.theirs}, {tt.theirs, tt.ours}} {
				ours, theirs := &record.Document{Tokens: pair[:1]}, Side{Tokens: pair[1:]}
				got, _ := Into(ours, Touched{All: true}, theirs)
				at := got.Tokens[0]
				if at.ExpireMillis != tt.expire || at.OwnExpireMillis != tt.own || at.OverlapEndMillis != tt.overlap {
					t.Errorf("got %d, %d, %d", at.ExpireMillis, at.OwnExpireMillis, at.OverlapEndMillis)
				}
			}
		})
	}
}
