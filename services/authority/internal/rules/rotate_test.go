package rules_test

import (
	"math"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/services/authority/internal/rules"
)

// rotate makes tok_next the successor of a token.
func rotate(id string, overlap time.Duration) func(*record.Document) (*record.Document, error) {
	return func(d *record.Document) (*record.Document, error) {
		return rules.Rotate(d, by, id, rules.Overlap{Most: overlap}, "tok_next", secret.Mint())
	}
}

func TestB09_Successor(t *testing.T) {
	minted := secret.Mint()
	old := with(token("a", events, sessions), func(t *record.Token) {
		t.Note, t.Imported, t.ExpireMillis = "note", true, millis(30*day)
	})
	before := document(set(events), old)
	after := mustChange(t, before, func(d *record.Document) (*record.Document, error) {
		return rules.Rotate(d, by, "a", rules.Overlap{Most: time.Hour}, "tok_next", minted)
	})
	wantOld := with(old, func(t *record.Token) {
		t.ExpireMillis, t.SuccessorID, t.UpdateMillis = millis(time.Hour), "tok_next", millis(0)
		t.OwnExpireMillis, t.OverlapEndMillis = millis(30*day), millis(time.Hour)
	})
	wantNext := record.Token{
		Token: policy.Token{
			ID: "tok_next", Digest: minted.Digest(), Scopes: set(events, sessions), State: policy.Active,
			ExpireMillis: millis(30 * day),
		},
		Name: "a", Note: "note", Hint: minted.Hint(), CreatedBy: "ada", CreateMillis: millis(0), UpdateMillis: millis(0),
		PredecessorID: "a", OwnExpireMillis: millis(30 * day),
	}
	if len(after.Tokens) != 2 || after.Tokens[0] != wantOld || after.Tokens[1] != wantNext {
		t.Errorf("got %+v\nwant %+v\n and %+v", after.Tokens, wantOld, wantNext)
	}
}

func TestB09_Overlap(t *testing.T) {
	if rules.DefaultOverlap != 7*day || rules.MaxOverlap != 90*day {
		t.Errorf("overlap is %v by default and at most %v", rules.DefaultOverlap, rules.MaxOverlap)
	}
	for _, tt := range []struct {
		name    string
		own     time.Duration // the token's own expiry; 0 is none
		overlap time.Duration
		want    time.Duration
	}{
		{"none", 0, 0, 0},
		{"default", 0, 7 * day, 7 * day},
		{"longest", 0, 90 * day, 90 * day},
		{"own expiry is later", 8 * day, 7 * day, 7 * day},
		{"own expiry is the same", 7 * day, 7 * day, 7 * day},
		{"own expiry is sooner", day, 7 * day, day},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := token("a", events)
			if tt.own != 0 {
				a = expiring(a, tt.own)
			}
			after := mustChange(t, document(set(events), a), rotate("a", tt.overlap))
			a0 := find(t, after, "a")
			if got := a0.EndMillis(); got != millis(tt.want) {
				t.Errorf("the old token ends at %d, want %d", got, millis(tt.want))
			}
			if got := find(t, after, "tok_next").ExpireMillis; got != a.ExpireMillis {
				t.Errorf("the successor ends at %d, want %d", got, a.ExpireMillis)
			}
		})
	}
}

func TestB09_OldTokenEndsToTheMillisecond(t *testing.T) {
	after := mustChange(t, document(set(events), token("a", events)), rotate("a", time.Hour))
	if got := stateAt(t, after, "a", time.Hour-time.Millisecond); got != policy.Active {
		t.Errorf("just before the overlap ends the old token is %d", got)
	}
	if got := stateAt(t, after, "a", time.Hour); got != policy.Expired {
		t.Errorf("when the overlap ends the old token is %d", got)
	}
	if got := stateAt(t, after, "tok_next", time.Hour); got != policy.Active {
		t.Errorf("when the overlap ends the successor is %d", got)
	}
}

func TestB09_RotationIsRefused(t *testing.T) {
	succeeded := with(token("a", events), func(t *record.Token) { t.SuccessorID = "b" })
	successor := with(token("b", events), func(t *record.Token) { t.PredecessorID, t.Name = "a", "a" })
	for _, tt := range []struct {
		name   string
		tokens []record.Token
		want   failure
	}{
		{"disabled", []record.Token{disabled(token("a"))}, notActive},
		{"expired", []record.Token{expiring(token("a"), 0)}, notActive},
		{"revoked", []record.Token{revoked(token("a"))}, notActive},
		{"about to expire", []record.Token{expiring(token("a"), time.Millisecond)}, fine},
		{"successor is active", []record.Token{succeeded, successor}, hasSuccessor},
		{"successor is disabled", []record.Token{succeeded, disabled(successor)}, hasSuccessor},
		{"successor is revoked", []record.Token{succeeded, revoked(successor)}, fine},
		{"successor has expired", []record.Token{succeeded, expiring(successor, 0)}, fine},
		{"successor is forgotten", []record.Token{succeeded}, fine},
	} {
		t.Run(tt.name, func(t *testing.T) {
			after, err := pure(t, document(0, tt.tokens...), rotate("a", time.Hour))
			wantFailure(t, err, tt.want)
			if err == nil && find(t, after, "a").SuccessorID != "tok_next" {
				t.Errorf("the old token names %q as its successor", find(t, after, "a").SuccessorID)
			}
		})
	}
}

// TestB09_Chain: the successor can be rotated too, during the first overlap.
func TestB09_Chain(t *testing.T) {
	first := mustChange(t, document(set(events), token("a", events)), rotate("a", 7*day))
	second := mustChange(t, first, func(d *record.Document) (*record.Document, error) {
		return rules.Rotate(d, later(time.Hour), "tok_next", rules.Overlap{}, "tok_third", secret.Mint())
	})
	a, b, c := find(t, second, "a"), find(t, second, "tok_next"), find(t, second, "tok_third")
	if a.SuccessorID != b.ID || b.PredecessorID != a.ID || b.SuccessorID != c.ID || c.PredecessorID != b.ID ||
		c.SuccessorID != "" {
		t.Errorf("the chain is broken: %+v", second.Tokens)
	}
	if b.StateAt(millis(time.Hour)) != policy.Expired || a.StateAt(millis(time.Hour)) != policy.Active ||
		c.StateAt(millis(time.Hour)) != policy.Active {
		t.Errorf("states: %+v", second.Tokens)
	}
	if a.Name != "a" || b.Name != "a" || c.Name != "a" {
		t.Errorf("names: %+v", second.Tokens)
	}
}

// TestB16_RotatingNeverLocksOut: a rotation never locks out, not even without overlap.
func TestB16_RotatingNeverLocksOut(t *testing.T) {
	for name, a := range map[string]record.Token{
		"scoped": token("a", events), "unscoped": token("a"), "with an expiry": expiring(token("a", events), day),
	} {
		t.Run(name, func(t *testing.T) {
			after := mustChange(t, document(set(events, gdpr), a), rotate("a", 0))
			p, err := after.Policy()
			if err != nil {
				t.Fatal(err)
			}
			if bare := p.Uncovered(set(events, gdpr), millis(0)); bare != 0 {
				t.Errorf("left bare: %b", bare)
			}
		})
	}
}

// TestB09_OverlapIsNotInherited: A never expires. It is rotated to B, B is revoked, and A is rotated to C. C
// gets A's own expiry, not the end of A's overlap.
func TestB09_OverlapIsNotInherited(t *testing.T) {
	for _, tt := range []struct {
		name string
		own  time.Duration // 0 is never
	}{{"never", 0}, {"later than the overlap", 30 * day}, {"sooner than the overlap", day}} {
		t.Run(tt.name, func(t *testing.T) {
			fresh := fresh("a", events)
			if tt.own != 0 {
				fresh.ExpireMillis = millis(tt.own)
			}
			d := mustChange(t, document(set(events), token("z", events)), create(fresh))
			d = mustChange(t, d, rotate(fresh.ID, 7*day))
			d = mustChange(t, d, revoke(false, "tok_next"))
			again := later(time.Hour)
			d = mustChange(t, d, func(d *record.Document) (*record.Document, error) {
				return rules.Rotate(d, again, fresh.ID, rules.Overlap{Most: 10 * day}, "tok_c", secret.Mint())
			})
			c, a := find(t, d, "tok_c"), find(t, d, fresh.ID)
			if c.ExpireMillis != fresh.ExpireMillis || c.OwnExpireMillis != fresh.ExpireMillis || c.OverlapEndMillis != 0 {
				t.Errorf("the second successor is %+v, want it to end at %d", c, fresh.ExpireMillis)
			}
			// The second overlap counts, but never beyond the token's own expiry.
			want := again.Now.Add(10 * day).UnixMilli()
			if tt.own != 0 {
				want = min(want, fresh.ExpireMillis)
			}
			if a.ExpireMillis != want || a.OwnExpireMillis != fresh.ExpireMillis {
				t.Errorf("the old token is %+v, want it to end at %d", a, want)
			}
		})
	}
}

// TestB09_RecordsWithOneTime: documents of an earlier release have one time for expiry and overlap. The rules
// find out which of the two it is.
func TestB09_RecordsWithOneTime(t *testing.T) {
	a := with(expiring(token("a", events), 7*day), func(t *record.Token) { t.SuccessorID = "b" })
	b := with(revoked(token("b", events)), func(t *record.Token) { t.PredecessorID = "a" })
	for _, tt := range []struct {
		name   string
		tokens []record.Token
		want   int64 // the expiry that the next successor gets
	}{
		{"never rotated", []record.Token{expiring(token("a", events), 7*day)}, millis(7 * day)},
		{"successor without expiry", []record.Token{a, b}, 0},
		{"successor with a later expiry", []record.Token{a, expiring(b, 30*day)}, millis(30 * day)},
		{"own expiry came first", []record.Token{a, expiring(b, 7*day)}, millis(7 * day)},
		{"successor is forgotten", []record.Token{a}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			after := mustChange(t, document(set(events), tt.tokens...), rotate("a", 30*day))
			if got := find(t, after, "tok_next"); got.ExpireMillis != tt.want {
				t.Errorf("the successor ends at %d, want %d", got.ExpireMillis, tt.want)
			}
		})
	}
}

// TestB09_ExpiryOfAPredecessor: while the successor counts, a given time moves the end of the overlap.
// Afterwards it is the token's own expiry. No token inherits the end of an overlap.
func TestB09_ExpiryOfAPredecessor(t *testing.T) {
	expire := func(at int64) func(*record.Document) (*record.Document, error) {
		return apply(update("a", func(u *rules.Update) { u.ExpireMillis = ptr(at) }))
	}
	start := func(t *testing.T, own time.Duration) *record.Document {
		a := token("a", events)
		if own != 0 {
			a.SetEnd(millis(own), 0, millis(0))
		}
		return mustChange(t, document(set(events), token("z", events), a), rotate("a", 7*day))
	}
	for _, tt := range []struct {
		name             string
		own              time.Duration
		revoked          bool
		given            int64
		ends, own2, over int64
	}{
		{"longer", 0, false, millis(14 * day), millis(14 * day), 0, millis(14 * day)},
		{"shorter", 0, false, millis(day), millis(day), 0, millis(day)},
		{"at once", 0, false, millis(-day), policy.Ended, 0, millis(0)},
		{"for ever", 30 * day, false, 0, 0, 0, 0},
		{"past its own expiry", 10 * day, false, millis(14 * day), millis(14 * day), millis(14 * day), millis(14 * day)},
		{
			"longer, its own expiry is later", 30 * day, false, millis(14 * day), millis(14 * day), millis(30 * day),
			millis(14 * day),
		},
		{"successor revoked", 0, true, millis(14 * day), millis(14 * day), millis(14 * day), 0},
		{"successor revoked, for ever", 0, true, 0, 0, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := start(t, tt.own)
			if tt.revoked {
				d = mustChange(t, d, revoke(false, "tok_next"))
			}
			got := find(t, mustChange(t, d, expire(tt.given)), "a")
			if got.ExpireMillis != tt.ends || got.OwnExpireMillis != tt.own2 || got.OverlapEndMillis != tt.over {
				t.Errorf("ends at %d, own expiry %d, overlap until %d; want %d, %d, %d",
					got.ExpireMillis, got.OwnExpireMillis, got.OverlapEndMillis, tt.ends, tt.own2, tt.over)
			}
		})
	}
	t.Run("comes back when the overlap is over", func(t *testing.T) {
		d := start(t, 0)
		d = mustChange(t, d, revoke(false, "tok_next"))
		d = mustChange(t, d, func(d *record.Document) (*record.Document, error) {
			return update("a", func(u *rules.Update) { u.ExpireMillis = ptr(int64(0)) }).Apply(d, later(8*day))
		})
		if got := find(t, d, "a"); got.StateAt(millis(100*day)) != policy.Active || got.OverlapEndMillis != 0 {
			t.Errorf("got %+v", got)
		}
	})
}

// TestB08_EndedAtOnceWhateverTheClock: a token that is ended now is ended also on a validator whose clock is
// behind, and stays ended when it is disabled and enabled again.
func TestB08_EndedAtOnceWhateverTheClock(t *testing.T) {
	expire := apply(update("a", func(u *rules.Update) { u.ExpireMillis = ptr(millis(0)) }))
	for name, call := range map[string]func(*record.Document) (*record.Document,
		error){"rotated without overlap": rotate("a", 0), "expired now": expire} {
		t.Run(name, func(t *testing.T) {
			d := mustChange(t, document(0, token("a", events)), call)
			check := func(d *record.Document) {
				t.Helper()
				for _, clock := range []int64{
					math.MinInt64, 0, 1, millis(-400 * day), millis(-5 * time.Minute), millis(0),
					millis(day),
				} {
					a := find(t, d, "a")
					if a.StateAt(clock) != policy.Expired {
						t.Errorf("by the clock %d it is %d", clock, a.StateAt(clock))
					}
				}
				a := find(t, d, "a")
				if a.EndMillis() != millis(0) || !rules.Listed(&a, millis(29*day)) || rules.Listed(&a, millis(30*day)) {
					t.Errorf("it ended at %d, want %d", a.EndMillis(), millis(0))
				}
			}
			check(d)
			for _, state := range []policy.State{policy.Disabled, policy.Active} {
				d = mustChange(t, d, apply(update("a", func(u *rules.Update) { u.State = ptr(state) })))
			}
			check(d)
			d = mustChange(t, d, apply(update("a", func(u *rules.Update) { u.ExpireMillis = ptr(millis(day)) })))
			if got := stateAt(t, d, "a", time.Hour); got != policy.Active {
				t.Errorf("with a later expiry it is %d", got)
			}
		})
	}
}
