package redisfeed_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/testkit/storetest"
)

// TestIdsThatNoRevisionHasAreLeftOut: entries with such ids hide no other entry, and every read of the log
// ends.
func TestIdsThatNoRevisionHasAreLeftOut(t *testing.T) {
	k := start(t, 1)
	key := record.KeysOf(0).Log
	add := func(id string) {
		t.Helper()
		if err := k.admin.Do(t.Context(), "XADD", key, id, "l", "garbage").Err(); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		k.store.Commit(k.store.App(0, 0), storetest.AddToken(fmt.Sprint(i)))
		for j := range 5 {
			add(fmt.Sprintf("%d-%d", i+1, j+1))
		}
	}
	for i := range 5 {
		add(fmt.Sprintf("%d-1", 10+i))
	}
	add("20-0")
	add("18446744073709551615-0")
	add("18446744073709551615-18446744073709551615")
	feed := k.feed(t, k.server.URL())
	for limit := 1; limit <= 30; limit++ {
		var revisions []uint64
		for after, pages := uint64(0), 0; ; pages++ {
			_, links, err := feed.Tail(limited(t), 0, after, limit)
			if err != nil || pages > 30 {
				t.Fatalf("%d at most, page %d: %v", limit, pages, err)
			}
			if len(links) == 0 {
				break
			}
			for _, link := range links {
				revisions = append(revisions, link.Revision)
			}
			after = links[len(links)-1].Revision
		}
		if got := fmt.Sprint(revisions); got != "[1 2 3 20 18446744073709551615]" {
			t.Fatalf("%d at most: %s", limit, got)
		}
	}
}

// TestKeysOfAnotherTypeAreNamed in errors, with the type that they should have. A head of another type counts
// as an invalid head.
func TestKeysOfAnotherTypeAreNamed(t *testing.T) {
	keys := record.KeysOf(1)
	types := map[string][]any{
		"string": {"SET", "x"}, "hash": {"HSET", "f", "v"}, "list": {"LPUSH", "x"}, "stream": {"XADD", "1-0", "l", "x"},
		"set": {"SADD", "x"},
	}
	for want, key := range map[string]string{
		"hash": keys.Policies, "stream": keys.Log, "string": record.MetaKey,
		"head": keys.Head,
	} {
		k := start(t, 2)
		k.store.Commit(k.store.App(1, 0), storetest.AddToken("first"))
		client := open(t, k.server.URL())
		feed := redisfeed.New(client, 2)
		for name, command := range types {
			if name == want || key == keys.Head && name == "string" {
				continue
			}
			if err := errors.Join(k.admin.Del(t.Context(), key).Err(),
				k.admin.Do(t.Context(), append([]any{command[0], key}, command[1:]...)...).Err()); err != nil {
				t.Fatal(err)
			}
			head, _, tailErr := feed.Tail(limited(t), 1, 0, 10)
			documentsErr := feed.Documents(limited(t), 1, func(string, []byte) {})
			_, metaErr := client.Meta(limited(t), keyring.Generate())
			if key == keys.Head {
				if tailErr != nil || head == nil || len(head) > 0 || documentsErr != nil {
					t.Errorf("the head is a %s: it is read as %q, %v, %v", name, head, tailErr, documentsErr)
				}
				continue
			}
			for of, err := range map[string]error{keys.Policies: documentsErr, keys.Log: tailErr, record.MetaKey: metaErr} {
				if of != key {
					if errors.Is(err, replica.ErrWrongType) {
						t.Errorf("%s is a %s, and of %s it is said: %v", key, name, of, err)
					}
					continue
				}
				if !errors.Is(err, replica.ErrWrongType) || !redisfeed.IsWrongType(err) ||
					!strings.Contains(err.Error(), key+" is not a "+want) {
					t.Errorf("%s is a %s: %v", key, name, err)
				}
			}
			if heads, err := feed.Heads(limited(t)); err != nil || !bytes.Equal(heads[1].Raw, k.store.RawHead(1)) {
				t.Errorf("%s is a %s: heads %v, %v", key, name, heads, err)
			}
		}
	}
}
