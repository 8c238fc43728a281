package rules_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/services/authority/internal/rules"
)

func create(tokens ...rules.NewToken) func(*record.Document) (*record.Document, error) {
	return func(d *record.Document) (*record.Document, error) { return rules.Create(d, by, tokens...) }
}

func TestB01_CreateMakesAnActiveTokenAtTheEnd(t *testing.T) {
	n := fresh("checkout", events, sessions)
	n.Note, n.ExpireMillis = "of the shop", millis(time.Hour)
	after := mustChange(t, document(0, token("a", events)), create(n))
	want := record.Token{
		Token: policy.Token{
			ID: n.ID, Digest: n.Digest, Scopes: set(events, sessions), State: policy.Active, ExpireMillis: millis(time.Hour),
		},
		Name: "checkout", Note: "of the shop", Hint: "abcdef", CreatedBy: "ada", CreateMillis: millis(0), UpdateMillis: millis(0),
		OwnExpireMillis: millis(time.Hour),
	}
	if len(after.Tokens) != 2 || after.Tokens[1] != want {
		t.Errorf("got %+v, want a second token %+v", after.Tokens, want)
	}
	if after.UpdateMillis != millis(0) || after.CreateMillis != millis(-day) {
		t.Errorf("the app's times are %d and %d", after.CreateMillis, after.UpdateMillis)
	}
}

func TestB01_CreateMakesTheApp(t *testing.T) {
	after := mustChange(t, nil, create(fresh("first")))
	if len(after.Tokens) != 1 || after.CreateMillis != millis(0) || after.UpdateMillis != millis(0) || after.Deleted {
		t.Errorf("got %+v", after)
	}
}

func TestB01_ExpiryOfANewToken(t *testing.T) {
	for _, tt := range []struct {
		name   string
		expire int64
		want   failure
	}{
		{"never", 0, fine},
		{"the next millisecond", millis(time.Millisecond), fine},
		{"this very millisecond", millis(0), invalid("expire_time")},
		{"long ago", 1, invalid("expire_time")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := fresh("a")
			n.ExpireMillis = tt.expire
			_, err := pure(t, document(0), create(n))
			wantFailure(t, err, tt.want)
		})
	}
}

// rotated returns a token whose successor is b.
func rotated(t record.Token) record.Token {
	t.SuccessorID = "b"
	return t
}

// TestB01_Names: ACTIVE and DISABLED tokens hold their names, except rotated ones with a successor.
func TestB01_Names(t *testing.T) {
	holders := []struct {
		name  string
		token record.Token
		// successor is the successor of a rotated token, under another name.
		successor []record.Token
		taken     bool
	}{
		{"active", token("a"), nil, true},
		{"disabled", disabled(token("a")), nil, true},
		{"disabled, its expiry has come", expiring(disabled(token("a")), -time.Hour), nil, true},
		{"about to expire", expiring(token("a"), time.Millisecond), nil, true},
		{"expired", expiring(token("a"), 0), nil, false},
		{"revoked", revoked(token("a")), nil, false},
		{"rotated, overlapping", rotated(token("a")), []record.Token{token("b")}, false},
		{"rotated, its successor is disabled", rotated(token("a")), []record.Token{disabled(token("b"))}, false},
		{"rotated, its successor is revoked", rotated(token("a")), []record.Token{revoked(token("b"))}, true},
		{"rotated, its successor is forgotten", rotated(token("a")), nil, true},
	}
	for _, tt := range holders {
		want := fine
		if tt.taken {
			want = nameTaken
		}
		tt.token.Name = "shop"
		t.Run("create beside "+tt.name, func(t *testing.T) {
			_, err := pure(t, document(0, append(tt.successor, tt.token)...), create(fresh("shop")))
			wantFailure(t, err, want)
		})
		t.Run("rename beside "+tt.name, func(t *testing.T) {
			rename := update("z", func(u *rules.Update) { u.Name = ptr("shop") })
			_, err := pure(t, document(0, append(tt.successor, tt.token, token("z"))...),
				func(d *record.Document) (*record.Document, error) {
					return rename.Apply(d, by)
				})
			wantFailure(t, err, want)
		})
	}
	t.Run("other case is another name", func(t *testing.T) {
		_, err := pure(t, document(0, named(token("a"), "Shop")), create(fresh("shop")))
		wantFailure(t, err, fine)
	})
	t.Run("twice in one import", func(t *testing.T) {
		one, two := fresh("shop"), fresh("shop")
		two.Digest = digest("another")
		_, err := pure(t, document(0), create(one, two))
		wantFailure(t, err, nameTaken)
	})
}

// TestB01_NamesOfTokensThatComeBack: a token that comes back to life must not have a name that another one
// took.
func TestB01_NamesOfTokensThatComeBack(t *testing.T) {
	tests := []struct {
		name   string
		token  record.Token
		change func(*rules.Update)
		want   failure
	}{
		{
			"a disabled one held its name all the time", disabled(named(token("a"), "other")),
			func(u *rules.Update) { u.State = ptr(policy.Active) }, fine,
		},
		{
			"an expired one is given a later expiry", expiring(named(token("a"), "shop"), -time.Hour),
			func(u *rules.Update) { u.ExpireMillis = ptr(millis(time.Hour)) }, nameTaken,
		},
		{
			"an expired one is made to last for ever", expiring(named(token("a"), "shop"), -time.Hour),
			func(u *rules.Update) { u.ExpireMillis = ptr(int64(0)) }, nameTaken,
		},
		{
			"an expired one is disabled, which takes away", expiring(named(token("a"), "shop"), -time.Hour),
			func(u *rules.Update) { u.State = ptr(policy.Disabled) }, fine,
		},
		{
			"an expired one is disabled and renamed", expiring(named(token("a"), "other"), -time.Hour),
			func(u *rules.Update) { u.State, u.Name = ptr(policy.Disabled), ptr("shop") }, nameTaken,
		},
		{
			"an expired one comes back under another name", expiring(named(token("a"), "shop"), -time.Hour),
			func(u *rules.Update) { u.ExpireMillis, u.Name = ptr(int64(0)), ptr("shop 2") }, fine,
		},
		{
			"an expired one stays expired", expiring(named(token("a"), "shop"), -time.Hour),
			func(u *rules.Update) { u.Note = ptr("noted") }, fine,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := document(0, tt.token, named(token("b"), "shop"))
			_, err := pure(t, before, func(d *record.Document) (*record.Document, error) {
				return update("a", tt.change).Apply(d, by)
			})
			wantFailure(t, err, tt.want)
		})
	}
}

// crowd is an app with a number of tokens.
func crowd(n int, change func(i int, t *record.Token)) *record.Document {
	d := document(0)
	for i := range n {
		d.Tokens = append(d.Tokens, with(token(fmt.Sprintf("tok_%04d", i)), func(t *record.Token) {
			if change != nil {
				change(i, t)
			}
		}))
	}
	return d
}

func TestB01_AtMost1000Tokens(t *testing.T) {
	third := func(i int, t *record.Token) {
		if i%3 == 0 {
			t.State = policy.Disabled
		}
	}
	ended := func(d *record.Document) *record.Document {
		d.Tokens[0] = revoked(d.Tokens[0])
		d.Tokens[1] = expiring(d.Tokens[1], 0)
		return d
	}
	manyNew := func(n int) []rules.NewToken {
		tokens := make([]rules.NewToken, n)
		for i := range tokens {
			tokens[i] = fresh(fmt.Sprintf("new %d", i))
		}
		return tokens
	}
	rotate := func(overlap time.Duration) func(*record.Document) (*record.Document, error) {
		return func(d *record.Document) (*record.Document, error) {
			return rules.Rotate(d, by, "tok_0500", rules.Overlap{Most: overlap}, "tok_next", secret.Mint())
		}
	}
	revive := func(u rules.Update) func(*record.Document) (*record.Document, error) {
		return func(d *record.Document) (*record.Document, error) { return u.Apply(d, by) }
	}
	tests := []struct {
		name   string
		before *record.Document
		call   func(*record.Document) (*record.Document, error)
		want   failure
	}{
		{"the 1,000th", crowd(999, nil), create(fresh("last")), fine},
		{"the 1,001st", crowd(1000, nil), create(fresh("last")), tooMany},
		{"disabled ones count", crowd(1000, third), create(fresh("last")), tooMany},
		{"revoked and expired ones do not", ended(crowd(1002, nil)), create(fresh("last")), tooMany},
		{"nor do they at one less", ended(crowd(1001, nil)), create(fresh("last")), fine},
		{"1,000 at once", document(0), create(manyNew(1000)...), fine},
		{"1,001 at once", document(0), create(manyNew(1001)...), tooMany},
		{"all or none", crowd(500, nil), create(manyNew(501)...), tooMany},
		{"rotation at the limit, overlapping", crowd(1000, nil), rotate(time.Hour), tooMany},
		{"rotation at the limit, without overlap", crowd(1000, nil), rotate(0), fine},
		{"rotation below the limit", crowd(999, nil), rotate(time.Hour), fine},
		{
			"an expired one comes back at the limit", ended(crowd(1002, nil)),
			revive(update("tok_0001", func(u *rules.Update) { u.ExpireMillis = ptr(int64(0)) })), tooMany,
		},
		{
			"an expired one comes back below the limit", ended(crowd(1001, nil)),
			revive(update("tok_0001", func(u *rules.Update) { u.ExpireMillis = ptr(int64(0)) })), fine,
		},
		{
			"a change of another kind at the limit", crowd(1000, nil),
			revive(update("tok_0001", func(u *rules.Update) { u.State = ptr(policy.Disabled) })), fine,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := pure(t, tt.before, tt.call)
			wantFailure(t, err, tt.want)
		})
	}
}

func TestNewTokenID(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		id := rules.NewTokenID()
		if seen[id] || len(id) != 20 || !strings.HasPrefix(id, "tok_") ||
			strings.Trim(id[4:], "abcdefghijklmnopqrstuvwxyz234567") != "" {
			t.Fatalf("id %q: want tok_ and 16 characters of a-z 2-7, each once", id)
		}
		seen[id] = true
	}
}

// TestB01_ClashDoesNotBlockTheApp: rotate "a", rename the successor, create another "a", revoke the
// successor. Two tokens have the name "a" then. Every call that gives no token that name still works.
func TestB01_ClashDoesNotBlockTheApp(t *testing.T) {
	d := mustChange(t, document(0, token("a", events), token("z", events)), rotate("a", 7*day))
	d = mustChange(t, d, apply(update("tok_next", func(u *rules.Update) { u.Name = ptr("renamed") })))
	other, third := fresh("a", events), fresh("a", events)
	third.Digest = digest("third")
	d = mustChange(t, d, create(other))
	d = mustChange(t, d, revoke(false, "tok_next"))
	if got := holdersOf(d, millis(0))["a"]; len(got) != 2 {
		t.Fatalf("%v are named a: the test shows nothing", got)
	}
	turn := func(id string) func(*record.Document) (*record.Document, error) {
		return func(d *record.Document) (*record.Document, error) {
			return rules.Rotate(d, by, id, rules.Overlap{Most: time.Hour}, "tok_turned", secret.Mint())
		}
	}
	for _, id := range []string{"a", "z", other.ID} {
		mustChange(t, d, revoke(false, id))
		mustChange(t, d, turn(id))
		mustChange(t, d, apply(update(id, func(u *rules.Update) { u.State = ptr(policy.Disabled) })))
		mustChange(t, d, apply(update(id, func(u *rules.Update) { u.ExpireMillis = ptr(millis(0)) })))
		mustChange(t, d, apply(update(id, func(u *rules.Update) { u.Scopes = ptr(set(revenue)) })))
		mustChange(t, d, apply(update(id, func(u *rules.Update) { u.Note = ptr("noted") })))
		mustChange(t, d, apply(update(id, func(u *rules.Update) { u.Name = ptr("free") })))
	}
	mustChange(t, d, create(fresh("b", events)))
	mustChange(t, d, deleteApp)
	for _, refused := range []func(*record.Document) (*record.Document, error){
		create(third), apply(update("z", func(u *rules.Update) { u.Name = ptr("a") })),
	} {
		_, err := pure(t, d, refused)
		wantFailure(t, err, nameTaken)
	}
}

// TestB01_RotationPastItsHeir: a token whose name a later successor holds gives it to no second one.
func TestB01_RotationPastItsHeir(t *testing.T) {
	a := with(token("a", events), func(t *record.Token) { t.SuccessorID = "b" })
	b := with(revoked(token("b", events)), func(t *record.Token) { t.Name, t.PredecessorID, t.SuccessorID = "a", "a", "c" })
	c := with(token("c", events), func(t *record.Token) { t.Name, t.PredecessorID = "a", "b" })
	_, err := pure(t, document(0, a, b, c), rotate("a", time.Hour))
	wantFailure(t, err, nameTaken)
}
