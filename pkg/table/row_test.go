package table_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/table"
)

// drawEntry draws an entry: any policy or none, current or old, with sticky revocations or without.
func drawEntry(t *rapid.T) *table.Entry {
	drawPolicy := func(label string) *policy.Policy {
		tokens := make([]policy.Token, rapid.IntRange(0, 40).Draw(t, label))
		for i := range tokens {
			tokens[i] = policy.Token{ID: "tok" + strings.Repeat("x", i), State: policy.State(1 + i%3)}
			tokens[i].Digest[i%32], tokens[i].Digest[31] = byte(i), byte(i+1)
		}
		p, err := policy.New(policy.Enforcement{Scopes: policy.ScopeSet(rapid.Uint64().Draw(t, "scopes"))}, tokens,
			rapid.Bool().Draw(t, "deleted"))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	e := &table.Entry{Revision: rapid.Uint64().Draw(t, "revision")}
	if rapid.Bool().Draw(t, "with a policy") {
		e.Policy, e.PolicyRevision = drawPolicy("tokens"), e.Revision
		if rapid.Bool().Draw(t, "kept") {
			e.Stored = drawPolicy("stored tokens")
		}
	}
	if rapid.Bool().Draw(t, "behind") {
		e.PolicyRevision = rapid.Uint64().Draw(t, "revision of the policy")
	}
	if rapid.Bool().Draw(t, "since") {
		e.Since = time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "seconds"), rapid.Int64Range(0, 1e9-1).Draw(t, "nanos"))
	}
	return e
}

// TestRowsSayWhatTheirEntriesDid: a row returns exactly the entry that was put, for any entry and any length
// of the app id.
func TestRowsSayWhatTheirEntriesDid(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		app := strings.Repeat("a", rapid.OneOf(rapid.IntRange(1, 64), rapid.SampledFrom([]int{127, 128, 129, 300})).Draw(t,
			"length"))
		want := drawEntry(t)
		p := table.NewPartition(map[string]*table.Entry{app: want, app + "b": {Revision: 1}}, 1)
		if rapid.Bool().Draw(t, "put") {
			p = table.NewPartition(map[string]*table.Entry{app: {Revision: 1}, app + "b": {Revision: 1}}, 1)
			p.Put(app, want)
		}
		tab := table.New(1)
		tab.Swap(0, p)
		row := tab.Find(app).Row
		if got := row.Entry(); !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v, want %+v", got, want)
		}
		if !row.Known() || row.Revision() != want.Revision || row.PolicyRevision() != want.PolicyRevision ||
			row.Behind() != want.Behind() || row.Kept() != want.Kept() || !row.Since().Equal(want.Since) {
			t.Fatalf("revision %d, of the policy %d, behind %v, kept %v, since %v; want %+v",
				row.Revision(), row.PolicyRevision(), row.Behind(), row.Kept(), row.Since(), want)
		}
		decides, has := row.Policy()
		if has != (want.Policy != nil) || has && decides != *want.Policy {
			t.Fatalf("a policy %v: %+v, want %+v", has, decides, want.Policy)
		}
		if stored := want.StoredPolicy(); stored != want.Policy && (want.Stored == nil || stored != want.Stored) {
			t.Fatalf("the store's policy is %+v", stored)
		}
		if other := tab.Find(app + "b").Row; other.Revision() != 1 || other.Kept() || other.Behind() {
			t.Fatalf("the row beside it became %+v", other.Entry())
		}
		if none := tab.Find(app + "c"); none.Row.Known() || none.Entry() != nil {
			t.Fatal("an app is found that was never put")
		}
		if size := p.Bytes(); size < len(app)+len(app)+1 || size > 1<<20 {
			t.Fatalf("it takes %d bytes", size)
		}
	})
}
