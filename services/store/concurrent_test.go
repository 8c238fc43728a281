package store_test

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/services/store"
)

// TestTwoAuthoritiesWriteOneApp: two authorities with several callers each make 10,000 changes. No update is
// lost, and log, state and audit trail agree (B23).
func TestTwoAuthoritiesWriteOneApp(t *testing.T) {
	const (
		app     = "pezwd5bre2xb"
		writes  = 10_000
		writers = 4 // of each authority
	)
	s := newSystem(t)
	stores := []*store.Store{s.open(s.redis.URL()), s.open(s.redis.URL())}
	update(t, stores[0], call(app, "counter", add("counter")))

	// Each change adds one to the shared counter and one to its writer's counter, in different fields of the
	// document. Every 200th change of a writer creates a token, and every 200th revokes one.
	var left atomic.Int64
	left.Store(writes - 1)
	var created, revoked atomic.Int64
	own := make([]int, 2*writers)
	var group sync.WaitGroup
	for w := range own {
		group.Go(func() {
			mine := fmt.Sprintf("writer-%d", w)
			for left.Add(-1) >= 0 {
				own[w]++
				n := own[w]
				change := func(before *record.Document) (*record.Document, error) {
					after := edit(before)
					count(&after.Tokens[0])
					at := find(after, mine)
					if at == nil {
						after, _ = add(mine)(after)
						at = find(after, mine)
					}
					if had := count(at); had != n-1 {
						return nil, fmt.Errorf("%s: change %d finds %d before it", mine, n, had)
					}
					switch id := fmt.Sprintf("%s-%d", mine, n-100); {
					case n%200 == 0:
						after.Tokens = append(after.Tokens, record.Token{
							Token: policy.Token{
								ID: fmt.Sprintf("%s-%d", mine, n), Digest: secret.DigestOf(fmt.Sprint(mine, n)),
								State: policy.Active,
							},
						})
					case n%200 == 100 && find(after, id) != nil:
						find(after, id).State = policy.Revoked
					}
					return after, nil
				}
				if _, err := stores[w%2].Update(t.Context(), call(app, mine, change)); err != nil {
					t.Errorf("%s: %v", mine, err)
					return
				}
				if n%200 == 0 {
					created.Add(1)
				}
				if n%200 == 100 && n > 200 {
					revoked.Add(1)
				}
			}
		})
	}
	group.Wait()
	if t.Failed() {
		return
	}

	h := s.verify(t, s.codec.PartitionOf(app))
	if h.head.Revision != writes || len(h.links) != writes || len(h.events) != writes {
		t.Errorf("%d changes were made: the head is at %d, the log has %d, the audit trail %d", writes, h.head.Revision,
			len(h.links), len(h.events))
	}
	d := h.documents[app]
	if got := d.Tokens[0].Note; got != fmt.Sprint(writes-1) {
		t.Errorf("the common counter is at %s, want %d", got, writes-1)
	}
	rows := map[string]int{}
	for _, event := range h.events {
		rows[event.GetMethod()]++
	}
	for w, n := range own {
		name := fmt.Sprintf("writer-%d", w)
		if got := find(d, name); got == nil || got.Note != fmt.Sprint(n) || rows[name] != n {
			t.Errorf("%s made %d changes, the document has %+v, the audit trail %d", name, n, got, rows[name])
		}
	}
	states := map[policy.State]int64{}
	for _, token := range d.Tokens[1:] {
		if token.Note == "" {
			states[token.State]++
		}
	}
	if states[policy.Revoked] != revoked.Load() || states[policy.Active]+states[policy.Revoked] != created.Load() {
		t.Errorf("%d tokens were made and %d revoked, the document has %v", created.Load(), revoked.Load(), states)
	}
}

// count adds one to the number in a token's note, and returns the old number. An empty note is 0.
func count(token *record.Token) int {
	n, _ := strconv.Atoi(token.Note)
	token.Note = strconv.Itoa(n + 1)
	return n
}

func find(d *record.Document, id string) *record.Token {
	for i := range d.Tokens {
		if d.Tokens[i].ID == id {
			return &d.Tokens[i]
		}
	}
	return nil
}

// TestUpdateIsInTheReplicaAtOnce: when a change is acknowledged, the authority's own replica has it, without
// waiting for the hint. The next change of the app is computed from it, and lists show it.
func TestUpdateIsInTheReplicaAtOnce(t *testing.T) {
	s := newSystem(t)
	st := s.open(s.redis.URL())
	partition := s.codec.PartitionOf("app")
	for i := range 100 {
		result := update(t, st, call("app", "made", add(fmt.Sprint("tok-", i))))
		if at := st.Replica().Cursors()[partition]; at.Before(result.Position.Cursor) {
			t.Fatalf("change %d is acknowledged at %s, and the replica is at %s", i, result.Position.Cursor, at)
		}
	}
}
