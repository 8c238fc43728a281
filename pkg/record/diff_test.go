package record_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
)

func TestTokenChanges(t *testing.T) {
	named := func(id, name string) record.Token { return record.Token{Token: policy.Token{ID: id}, Name: name} }
	before := &record.Document{Tokens: []record.Token{
		named("left2", ""), named("kept", ""), named("changed", "was"),
		named("left1", ""),
	}}
	after := &record.Document{Tokens: []record.Token{named("new", ""), named("changed", "is"), named("kept", "")}}
	want := []record.TokenChange{
		{After: &after.Tokens[0]},
		{Before: &before.Tokens[2], After: &after.Tokens[1]},
		{Before: &before.Tokens[0]},
		{Before: &before.Tokens[3]},
	}
	got := record.TokenChanges(before, after)
	if len(got) != len(want) {
		t.Fatalf("%d changes, want %d", len(got), len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("change %d: %+v, want %+v", i, got[i], want[i])
		}
	}
	if got := record.TokenChanges(nil, after); len(got) != 3 || got[2] != (record.TokenChange{After: &after.Tokens[2]}) {
		t.Errorf("a new app: %+v", got)
	}
	if got := record.TokenChanges(before, before); len(got) != 0 {
		t.Errorf("no change: %+v", got)
	}
}

// TestTokenChangesLeadFromOneDocumentToTheOther, whatever the two hold.
func TestTokenChangesLeadFromOneDocumentToTheOther(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before, after := document(t, "app1"), document(t, "app1")
		tokens := map[string]record.Token{}
		for _, token := range before.Tokens {
			tokens[token.ID] = token
		}
		for _, c := range record.TokenChanges(before, after) {
			switch {
			case c.After == nil:
				delete(tokens, c.Before.ID)
				continue
			case c.Before != nil && (c.Before.ID != c.After.ID || *c.Before == *c.After):
				t.Fatalf("%+v is no change of %+v", c.After, c.Before)
			case (c.Before == nil) == (tokens[c.After.ID].ID != ""):
				t.Fatalf("token %q: the change says that it was new: %v", c.After.ID, c.Before == nil)
			}
			tokens[c.After.ID] = *c.After
		}
		for _, token := range after.Tokens {
			if tokens[token.ID] != token {
				t.Fatalf("%+v, want %+v", tokens[token.ID], token)
			}
			delete(tokens, token.ID)
		}
		if len(tokens) > 0 {
			t.Fatalf("%d tokens are too many", len(tokens))
		}
	})
}
