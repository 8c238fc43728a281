package rules_test

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/services/authority/internal/rules"
)

// remembering returns a memory of a number of digests.
func remembering(t testing.TB, n int) policy.Memory {
	t.Helper()
	var prefixes []byte
	for i := range n {
		prefixes = binary.BigEndian.AppendUint64(prefixes, uint64(i)<<40)
	}
	m, err := policy.MemoryOf(prefixes, false)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

var tooManyDigests = failure{tooMany.code, "TOO_MANY_DIGESTS", ""}

// TestB08_NoLimitStopsWhatTakesAway: at and past every limit of an app, a call that adds is refused with the
// limit's name, and a call that takes away is not.
func TestB08_NoLimitStopsWhatTakesAway(t *testing.T) {
	full := crowd(10, nil)
	full.Memory = remembering(t, rules.MaxDigests-10)
	over := crowd(10, nil)
	over.Memory = remembering(t, policy.MaxMemory) // two pasts were merged
	live := crowd(1500, nil)
	for name, tt := range map[string]struct {
		before *record.Document
		want   failure
	}{"digests": {full, tooManyDigests}, "more digests": {over, tooManyDigests}, "tokens": {live, tooMany}} {
		t.Run(name, func(t *testing.T) {
			const id = "tok_0005"
			_, err := rules.Create(tt.before, by, fresh("new"))
			wantFailure(t, err, tt.want)
			_, err = rotate(id, time.Hour)(tt.before)
			wantFailure(t, err, tt.want)
			for what, call := range map[string]func(*record.Document) (*record.Document, error){
				"revoke": revoke(false, id), "delete": deleteApp, "enforce": enforce(set(events)),
				"disable": apply(update(id, func(u *rules.Update) { u.State = ptr(policy.Disabled) })),
				"expire":  apply(update(id, func(u *rules.Update) { u.ExpireMillis = ptr(millis(0)) })),
				"narrow":  apply(update(id, func(u *rules.Update) { u.Scopes = ptr(set(events)) })),
				"rename":  apply(update(id, func(u *rules.Update) { u.Name = ptr("other") })),
			} {
				after, err := call(tt.before)
				if err != nil || after == nil {
					t.Fatalf("%s: got %v", what, err)
				}
				if _, err := after.Policy(); err != nil {
					t.Errorf("%s: %v", what, err)
				}
			}
		})
	}
}

// TestB08_EndedTokensAreBounded: an app that keeps making and ending tokens keeps the latest ended tokens
// whole, and the digests of all revoked ones.
func TestB08_EndedTokensAreBounded(t *testing.T) {
	d := document(0)
	at := by
	gone := map[secret.Digest]bool{}
	for round := range 12 {
		var tokens []rules.NewToken
		for i := range rules.MaxTokens {
			n := fresh(fmt.Sprintf("%d-%d", round, i), events)
			if round%2 == 1 {
				n.ExpireMillis = at.Now.Add(90 * time.Second).UnixMilli()
			}
			tokens = append(tokens, n)
		}
		at.Now = at.Now.Add(time.Minute)
		made, err := rules.Create(d, at, tokens...)
		if err != nil {
			t.Fatal(err)
		}
		at.Now = at.Now.Add(time.Minute)
		if d = made; round%2 == 0 {
			if d, err = rules.Delete(made, at); err != nil {
				t.Fatal(err)
			}
			for _, token := range d.Tokens {
				gone[token.Digest] = true
			}
		}
		d.AppID = app
		if n := len(d.Tokens); n > rules.MaxEnded+2*rules.MaxTokens {
			t.Fatalf("round %d: the document has %d tokens", round, n)
		}
	}
	if d.Memory.Len() == 0 {
		t.Fatal("nothing is remembered: the test shows nothing")
	}
	p, err := d.Policy()
	if err != nil {
		t.Fatal(err)
	}
	for digest := range gone {
		if !p.Revokes(&policy.Token{ID: "any", Digest: digest}) {
			t.Fatalf("a revoked digest is forgotten (B08)")
		}
	}
}
