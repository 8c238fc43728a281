package record_test

import (
	"maps"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/secret"
)

// policyOf returns a document's policy; nil for no document.
func policyOf(t *rapid.T, d *record.Document) *policy.Policy {
	if d == nil {
		return nil
	}
	p, err := d.Policy()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// applied returns the policy after a link that went through the codec.
func applied(t *rapid.T, c *record.Codec, link *record.Link, before *policy.Policy) *policy.Policy {
	raw, err := c.SealLink(link)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := c.OpenLink(c.PartitionOf(link.AppID), raw)
	if err != nil {
		t.Fatal(err)
	}
	p, err := opened.Apply(before)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestLinkMakesTheDocumentAfterOfTheOneBefore: this holds for every change that the authority makes: tokens
// change in place, leave, or are added at the end. The link keeps the document's order.
func TestLinkMakesTheDocumentAfterOfTheOneBefore(t *testing.T) {
	c := newCodec(t)
	rapid.Check(t, func(t *rapid.T) {
		app := appIDs.Draw(t, "app")
		before := document(t, app)
		after := document(t, app)
		var tokens []record.Token
		for _, old := range before.Tokens {
			switch rapid.IntRange(0, 3).Draw(t, "change") {
			case 0: // leaves
			case 1:
				tokens = append(tokens, token(t, old.ID))
			default:
				tokens = append(tokens, old)
			}
		}
		for _, fresh := range after.Tokens {
			if !slices.ContainsFunc(before.Tokens, func(t record.Token) bool { return t.ID == fresh.ID }) {
				tokens = append(tokens, fresh)
			}
		}
		after.Tokens, after.Memory = dropDuplicates(tokens), before.Memory.Union(after.Memory)
		if rapid.IntRange(0, 9).Draw(t, "new app") == 0 {
			before = nil
		}
		was := policyOf(t, before)
		got := applied(t, c, record.LinkBetween(record.Tag{}, before, after), was)
		if want := policyOf(t, after); !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v, want %+v", got, want)
		}
		if before != nil && !reflect.DeepEqual(was, policyOf(t, before)) {
			t.Fatal("the policy before was changed")
		}
	})
}

// TestLinkBetweenAnyDocuments, also when tokens trade digests or change places: what decides is the same.
func TestLinkBetweenAnyDocuments(t *testing.T) {
	c := newCodec(t)
	content := func(p *policy.Policy) map[string]policy.Token {
		tokens := map[string]policy.Token{}
		for _, token := range p.Tokens() {
			tokens[token.ID] = token
		}
		return tokens
	}
	rapid.Check(t, func(t *rapid.T) {
		app := appIDs.Draw(t, "app")
		before, after := document(t, app), document(t, app)
		got := applied(t, c, record.LinkBetween(record.Tag{}, before, after), policyOf(t, before))
		want := policyOf(t, after)
		if !maps.Equal(content(got), content(want)) || got.Enforcement() != want.Enforcement() || got.Deleted() != want.Deleted() {
			t.Fatalf("%+v, want %+v", got, want)
		}
		for _, token := range want.Tokens() {
			if found := got.FindDigest(token.Digest); found == nil || *found != token {
				t.Fatalf("digest of %s finds %+v", token.ID, found)
			}
		}
	})
}

// TestLinkIsTheChangeAlone: an app may have 1,000 tokens, and a link must not.
func TestLinkIsTheChangeAlone(t *testing.T) {
	before := &record.Document{AppID: "app", Cursor: record.Cursor{Epoch: 1, Revision: 8}}
	for i := range 1000 {
		id := string(rune('A'+i/26/26)) + string(rune('A'+i/26%26)) + string(rune('A'+i%26))
		before.Tokens = append(before.Tokens, record.Token{Token: policy.Token{
			ID: id, Digest: secret.DigestOf(id),
			State: policy.Active,
		}, Name: id})
	}
	after := *before
	after.Tokens = slices.Clone(before.Tokens)
	after.Revision = 9
	after.Tokens[500].State = policy.Revoked
	after.Tokens[700].Name = "renamed, which decides nothing, and must not be lost either"
	after.Tokens = slices.Delete(after.Tokens, 900, 901)
	link := record.LinkBetween(record.Tag{7}, before, &after)
	want := &record.Link{
		AppID: "app", Cursor: record.Cursor{Epoch: 1, Revision: 9}, PreviousTag: record.Tag{7}, PreviousAppRevision: 8,
		Upserts: []record.Token{after.Tokens[500], after.Tokens[700]}, Removed: []string{before.Tokens[900].ID},
		SettingsKept: true,
	}
	if !reflect.DeepEqual(link, want) {
		t.Errorf("%+v, want %+v", link, want)
	}
}

// TestLinkThatMakesAnInvalidPolicyIsAnError, and no policy.
func TestLinkThatMakesAnInvalidPolicyIsAnError(t *testing.T) {
	tok := func(id, text string, state policy.State) policy.Token {
		return policy.Token{ID: id, Digest: secret.DigestOf(text), State: state}
	}
	before, err := policy.New(policy.Enforcement{}, []policy.Token{tok("a", "1", policy.Active)}, false)
	if err != nil {
		t.Fatal(err)
	}
	for name, upserts := range map[string][]policy.Token{
		"digest of another token": {tok("b", "1", policy.Active)},
		"one id twice":            {tok("b", "2", policy.Active), tok("b", "3", policy.Active)},
		"no id":                   {tok("", "2", policy.Active)},
		"state that is derived":   {tok("b", "2", policy.Expired)},
		"state of no kind":        {tok("a", "1", 0)},
	} {
		if p, err := (&record.Link{AppID: "app", Upserts: whole(upserts)}).Apply(before); err == nil || p != nil {
			t.Errorf("%s: policy %v, error %v", name, p, err)
		}
	}
}

// whole returns tokens with nothing but what decides.
func whole(tokens []policy.Token) []record.Token {
	all := make([]record.Token, len(tokens))
	for i, t := range tokens {
		all[i].Token = t
	}
	return all
}
