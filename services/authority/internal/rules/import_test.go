package rules_test

import (
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/services/authority/internal/rules"
)

// TestB11_DigestTwice: with the same secret twice in an app, one of its two tokens would have no effect.
func TestB11_DigestTwice(t *testing.T) {
	deleted := mustChange(t, document(0, token("a")), deleteApp)
	for _, tt := range []struct {
		name   string
		before *record.Document
		want   failure
	}{
		{"new app", nil, fine},
		{"of another token", document(0, token("b")), fine},
		{"of an active one", document(0, token("a")), secretTaken},
		{"of a disabled one", document(0, disabled(token("a"))), secretTaken},
		{"of an expired one", document(0, expiring(token("a"), -time.Hour)), secretTaken},
		{"of a revoked one", document(0, revoked(token("a"))), secretTaken},
		{"of one of a deleted app", deleted, secretTaken},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := fresh("imported")
			n.Digest, n.Imported, n.Field, n.Hint = digest("a"), true, "imports[0].", ""
			after, err := pure(t, tt.before, create(n))
			wantFailure(t, err, tt.want)
			if err == nil && !find(t, after, n.ID).Imported {
				t.Error("it does not count as imported")
			}
		})
	}
}

// TestB11_AllOrNone: one bad import rejects all.
func TestB11_AllOrNone(t *testing.T) {
	imports := func(change func(*rules.NewToken)) []rules.NewToken {
		tokens := []rules.NewToken{fresh("one", events), fresh("two", events), fresh("three", events)}
		tokens[0].Field, tokens[1].Field, tokens[2].Field = "imports[0].", "imports[1].", "imports[2]."
		change(&tokens[2])
		return tokens
	}
	for _, tt := range []struct {
		name   string
		change func(*rules.NewToken)
		want   failure
	}{
		{"all good", func(*rules.NewToken) {}, fine},
		{"secret of the first", func(n *rules.NewToken) { n.Digest = digest("new one") }, secretTaken},
		{"secret of a token", func(n *rules.NewToken) { n.Digest = digest("a") }, secretTaken},
		{"name of the first", func(n *rules.NewToken) { n.Name = "one" }, nameTaken},
		{"name of a token", func(n *rules.NewToken) { n.Name = "a" }, nameTaken},
		{"GDPR", func(n *rules.NewToken) { n.Scopes = set(gdpr) }, invalid("imports[2].scopes")},
		{"unscoped while enforced", func(n *rules.NewToken) { n.Scopes = 0 }, invalid("imports[2].scopes")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			after, err := pure(t, document(set(events), token("a", events)), create(imports(tt.change)...))
			wantFailure(t, err, tt.want)
			if err == nil && (len(after.Tokens) != 4 || after.Tokens[1].Name != "one" || after.Tokens[3].Name != "three") {
				t.Errorf("got %+v", after.Tokens)
			}
		})
	}
}
