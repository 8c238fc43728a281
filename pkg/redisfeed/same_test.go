package redisfeed_test

import (
	"bytes"
	"fmt"
	"maps"
	"reflect"
	"testing"

	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/testkit/storetest"
)

// TestStoreOfTestsReadsLikeRedis: Redis and the store of the replica's tests answer every read alike.
func TestStoreOfTestsReadsLikeRedis(t *testing.T) {
	k := start(t, 3)
	for i := range 40 {
		k.store.Commit(k.store.App(i%2, i%5), storetest.AddToken(fmt.Sprint(i), 1))
	}
	sources := map[string]replica.Source{"store of tests": k.store, "Redis": k.feed(t, k.server.URL())}
	want := map[string]any{}
	compare := func(source, what string, got any) {
		t.Helper()
		if first, seen := want[what]; seen && !reflect.DeepEqual(first, got) {
			t.Errorf("%s: %s has another answer: %v and %v", what, source, first, got)
		}
		want[what] = got
	}
	for name, source := range sources {
		heads, err := source.Heads(limited(t))
		if err != nil {
			t.Fatal(err)
		}
		compare(name, "heads", heads)
		for partition := range 3 {
			for _, after := range []uint64{0, 1, 19, 20, 1 << 62} {
				for _, limit := range []int{1, 7, 500} {
					head, links, err := source.Tail(limited(t), partition, after, limit)
					if err != nil || !bytes.Equal(head, heads[partition].Raw) {
						t.Fatal(err)
					}
					if len(links) == 0 {
						links = nil
					}
					compare(name, fmt.Sprintf("tail %d %d %d", partition, after, limit), links)
				}
			}
			documents := map[string]string{}
			if err := source.Documents(limited(t), partition,
				func(app string, raw []byte) { documents[app] = string(raw) }); err != nil {
				t.Fatal(err)
			}
			compare(name, fmt.Sprint("documents ", partition), maps.Clone(documents))
		}
	}
}
