package store_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/store"
)

// once returns a function for spoil. It injects a fault into the first command with a name, and calls then
// before the second such command passes.
func once(name string, f fault, then func()) func(command string) fault {
	seen := 0
	return func(command string) fault {
		if command != name {
			return pass
		}
		switch seen++; seen {
		case 1:
			return f
		case 2:
			then()
		}
		return pass
	}
}

// TestLostReply: a commit without a reply is sent again, and the change is made exactly once, whether or not
// the first send arrived. This holds also when another authority commits between the two sends.
func TestLostReply(t *testing.T) {
	faults := map[string]fault{
		"the script ran":              after,
		"the script did not arrive":   before,
		"half of the script arrived":  middle,
		"the script arrives too late": late,
	}
	s := newSystem(t)
	p := startProxy(t, s.redis.Address())
	lossy, other := s.open(p.url()), s.open(s.redis.URL())
	app := 0
	for name, f := range faults {
		for _, faster := range []string{"nobody", "another app's change", "the same app's change"} {
			t.Run(name+", "+faster+" in between", func(t *testing.T) {
				app++
				mine := fmt.Sprintf("mine-%d", app)
				partition := s.codec.PartitionOf(mine)
				theirs := map[string]string{"the same app's change": mine, "another app's change": s.otherApp(partition, app)}[faster]
				update(t, lossy, call(mine, "made", add("tok")))
				made := len(s.verify(t, partition).links)

				p.spoil(once("eval", f, func() {
					if theirs == "" {
						return
					}
					if _, err := other.Update(context.WithoutCancel(t.Context()), call(theirs, "theirs", add("theirs"))); err != nil {
						t.Errorf("the other's change: %v", err)
					}
				}))
				defer p.spoil(nil)
				changes := 0
				result := update(t, lossy, call(mine, "mine", func(before *record.Document) (*record.Document, error) {
					changes++
					return note(before.Tokens[0].Note + "x")(before)
				}))
				p.deliver("eval")

				h := s.verify(t, partition)
				want := made + 1
				if theirs != "" {
					want++
				}
				if len(h.links) != want {
					t.Errorf("got %d changes, want %d", len(h.links), want)
				}
				if got := h.documents[mine].Tokens[0].Note; got != "x" {
					t.Errorf("got the note %q, want x", got)
				}
				if got := h.links[result.Position.Revision-1].Cursor; got != result.Position.Cursor {
					t.Errorf("the answer has the cursor %s, the log has %s; want the same", result.Position.Cursor, got)
				}
				if theirs == "" && changes != 1 {
					t.Errorf("the change was computed %d times, want once", changes)
				}
			})
		}
	}
}

// otherApp returns an app of a partition. Each number has its own app.
func (s *system) otherApp(partition, number int) string {
	for i := 0; ; i++ {
		if id := fmt.Sprintf("other-%d-%d", number, i); s.codec.PartitionOf(id) == partition {
			return id
		}
	}
}

// TestLostAtRandom: two authorities make many changes while connections are cut before, during and after
// commands. Each acknowledged change is in the log exactly once. A failed change is not in the log, unless
// its outcome is unknown.
func TestLostAtRandom(t *testing.T) {
	const (
		writers = 3 // of each authority
		writes  = 60
	)
	s := newSystem(t)
	p := startProxy(t, s.redis.Address())
	stores := []*store.Store{s.open(p.url()), s.open(p.url())}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 0))
	spoilt := map[fault]int{}
	p.spoil(func(command string) fault {
		n := dice.IntN(100)
		switch {
		case command == "eval" && n < 24:
			f := []fault{before, middle, after, late}[n/6]
			spoilt[f]++
			return f
		case (command == "get" || command == "hget" || command == "xrange") && n < 2:
			return []fault{before, after}[n]
		}
		return pass
	})

	var mu sync.Mutex
	ended := map[string]error{}
	made := map[string]record.Position{}
	var group sync.WaitGroup
	for w := range 2 * writers {
		group.Go(func() {
			for i := range writes {
				name := fmt.Sprintf("%d-%d", w, i)
				app := fmt.Sprintf("app-%d", i%5)
				result, err := stores[w%2].Update(context.Background(), call(app, name, add(name)))
				mu.Lock()
				ended[name], made[name] = err, result.Position
				mu.Unlock()
			}
		})
	}
	group.Wait()
	p.spoil(nil)
	p.deliver("eval")
	for f, name := range map[fault]string{before: "before", middle: "while", after: "after", late: "long before"} {
		if spoilt[f] == 0 {
			t.Errorf("no connection was cut %s a change was carried out, want at least one", name)
		}
	}

	rows := map[string]int{}
	places := map[string]record.Cursor{}
	tokens := map[string]int{}
	for partition := range partitions {
		h := s.verify(t, partition)
		for i, event := range h.events {
			rows[event.GetMethod()]++
			places[event.GetMethod()] = h.links[i].Cursor
		}
		for _, d := range h.documents {
			for _, token := range d.Tokens {
				tokens[token.ID]++
			}
		}
	}
	failed, unknown := 0, 0
	for name, err := range ended {
		switch {
		case err == nil:
			if rows[name] != 1 || tokens[name] != 1 || places[name] != made[name].Cursor {
				t.Errorf("%s was acknowledged at %s: got %d rows, at %s, want 1", name, made[name].Cursor, rows[name], places[name])
			}
		case apierr.ReasonOf(err) == apierr.OutcomeUnknown:
			unknown++
			if rows[name] > 1 {
				t.Errorf("%s was made %d times, want at most once", name, rows[name])
			}
		default:
			failed++
			wantUnavailable(t, err, apierr.StoreUnavailable)
			if rows[name] != 0 || tokens[name] != 0 {
				t.Errorf("%s failed (%v), and the change was made; want no change", name, err)
			}
		}
	}
	t.Logf("%d calls: %d failed, of %d the outcome is unknown", len(ended), failed, unknown)
	if failed+unknown > len(ended)/2 {
		t.Error("most calls failed: the test shows nothing")
	}
}

// TestOutcomeUnknown: when Redis answers no send of a commit, the call fails with OUTCOME_UNKNOWN. A
// repetition with the same request id succeeds, and the change is made once.
func TestOutcomeUnknown(t *testing.T) {
	for name, first := range map[string]fault{"the first send arrived": after, "no send arrived": before} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSystem(t)
			p := startProxy(t, s.redis.Address())
			// The replica has its own connection, so that the faults do not affect it.
			lossy := s.openWith(redisClient(t, p.url()), s.replica(redisClient(t, s.redis.URL())))
			seen := false
			p.spoil(func(command string) fault {
				switch {
				case command == "eval" && !seen:
					seen = true
					return first
				case seen:
					return before
				}
				return pass
			})
			c := call("app", "made", add("tok"))
			c.Request = store.Request{Identity: "ada", Method: "Create", ID: "r1", Digest: []byte("content")}
			_, err := lossy.Update(t.Context(), c)
			wantUnavailable(t, err, apierr.OutcomeUnknown)
			if err == nil || strings.Contains(err.Error(), "nothing was changed") {
				t.Errorf("got %v, want an error that leaves the outcome open", err)
			}
			p.spoil(nil)

			again := update(t, lossy, c)
			if (again.Repeated != nil) != (first == after) {
				t.Errorf("the repetition found a stored answer: got %t, want %t", again.Repeated != nil, first == after)
			}
			if h := s.verify(t, s.codec.PartitionOf("app")); len(h.links) != 1 || len(h.documents["app"].Tokens) != 1 {
				t.Errorf("there are %d changes", len(h.links))
			}
		})
	}
}

// TestRepetitionIsAnsweredByWhoHoldsTheChange: an authority answers a repetition only when its replica holds
// the change. The authority that made the change may be down, and a failover may lose the change. A healing
// then needs the link.
func TestRepetitionIsAnsweredByWhoHoldsTheChange(t *testing.T) {
	s := newSystem(t)
	p := redistest.NewProxy(t, s.redis.Address())
	follower := s.replica(redisClient(t, p.URL()))
	behind := s.openWith(redisClient(t, s.redis.URL()), follower)
	p.BlackHole()
	c := call("app", "made", add("tok"))
	c.Request = store.Request{Identity: "ada", Method: "Create", ID: "r1", Digest: []byte("content")}
	update(t, s.open(s.redis.URL()), c)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if result, err := behind.Update(ctx, c); apierr.ReasonOf(err) != apierr.StoreUnavailable {
		t.Errorf("an authority that does not hold the change: got %v, %v, want UNAVAILABLE", result, err)
	}
	p.Restore()
	result := update(t, behind, c)
	if links := follower.Links(s.codec.PartitionOf("app")); result.Repeated == nil || len(links) != 1 {
		t.Errorf("got repeated %t with %d links, want true with 1", result.Repeated != nil, len(links))
	}
}

// TestCallerHangsUp: when a caller cancels a call during its commit, the store still waits for the outcome.
// The call returns the change that was made.
func TestCallerHangsUp(t *testing.T) {
	s := newSystem(t)
	p := startProxy(t, s.redis.Address())
	opened := s.openWith(redisClient(t, p.url()), s.replica(redisClient(t, s.redis.URL())))
	ctx, hangUp := context.WithCancel(t.Context())
	p.spoil(once("eval", holding, func() {}))
	ended := make(chan error, 1)
	var result store.Result
	go func() {
		var err error
		result, err = opened.Update(ctx, call("app", "made", add("tok")))
		ended <- err
	}()
	p.awaitHeld(t)
	hangUp()
	p.release()
	if err := <-ended; err != nil {
		t.Fatalf("got %v, want the change, which was made", err)
	}
	if h := s.verify(t, s.codec.PartitionOf("app")); h.head.Cursor != result.Position.Cursor {
		t.Errorf("the head is at %s, the answer has %s; want the same", h.head.Cursor, result.Position.Cursor)
	}
}

// TestHungUpBefore: a call that is cancelled before its commit was sent fails, and changes nothing.
func TestHungUpBefore(t *testing.T) {
	s := newSystem(t)
	opened := s.open(s.redis.URL())
	ctx, hangUp := context.WithCancel(t.Context())
	hangUp()
	_, err := opened.Update(ctx, call("app", "made", add("tok")))
	wantUnavailable(t, err, apierr.StoreUnavailable)
	if changes := s.verifyAll(t); changes != 0 {
		t.Errorf("got %d changes, want none", changes)
	}
}

// TestRepeatedRequests: a request's answer is stored with the change, and a repetition gets it (AIP-155).
func TestRepeatedRequests(t *testing.T) {
	s := newSystem(t)
	stores := []*store.Store{s.open(s.redis.URL()), s.open(s.redis.URL())}
	request := store.Request{Identity: "ada", Method: "Create", ID: "r1", Digest: []byte("content")}
	c := call("app", "made", add("tok"))
	c.Request = request
	first := update(t, stores[0], c)
	if first.Repeated != nil {
		t.Fatal("the first call counts as a repetition")
	}
	for i, opened := range stores {
		var answer countersignv1.RevokeTokenResponse
		if err := proto.Unmarshal(update(t, opened, c).Repeated, &answer); err != nil {
			t.Fatal(err)
		}
		if got := answer.GetConsistencyToken(); got != record.EncodePosition(first.Position) {
			t.Errorf("authority %d: a repetition is answered %q", i, got)
		}
	}
	other := c
	other.Request.Digest = []byte("other content")
	_, err := stores[1].Update(t.Context(), other)
	if got := apierr.ReasonOf(err); got != "INVALID_FIELD" {
		t.Errorf("other content under the same id: %v", err)
	}
	for name, change := range map[string]func(*store.Call){
		"another identity": func(c *store.Call) { c.Request.Identity = "grace" },
		"another method":   func(c *store.Call) { c.Request.Method = "Rotate" },
		"another id":       func(c *store.Call) { c.Request.ID = "r2" },
		"another app":      func(c *store.Call) { c.AppID = s.otherApp(s.codec.PartitionOf("app"), 0) },
	} {
		c := call("app", name, add(name))
		c.Request = request
		change(&c)
		if result := update(t, stores[0], c); result.Repeated != nil {
			t.Errorf("%s counts as a repetition", name)
		}
	}
	key := s.keysOf("app").Request("ada", "Create", "app", "r1")
	if life := check.Must(s.client.TTL(t.Context(), key).Result())(t); life > 24*time.Hour || life < 24*time.Hour-patience {
		t.Errorf("the answer is kept for %v, want 24 h", life)
	}
	s.verifyAll(t)
}

// TestRepeatedNothing: the answer of a call that changed nothing is stored too. A later repetition must not
// be carried out on the changed app.
func TestRepeatedNothing(t *testing.T) {
	s := newSystem(t)
	opened := s.open(s.redis.URL())
	update(t, opened, call("app", "made", add("tok")))
	nothing := call("app", "nothing", func(*record.Document) (*record.Document, error) { return nil, nil })
	nothing.Request = store.Request{Identity: "ada", Method: "Update", ID: "r1", Digest: []byte("content")}
	first := update(t, opened, nothing)
	if first.Repeated != nil {
		t.Fatal("the first call counts as a repetition")
	}
	update(t, opened, call("app", "changed", note("noted")))
	again := nothing
	again.Change = note("again")
	if update(t, opened, again).Repeated == nil || len(s.verify(t, s.codec.PartitionOf("app")).links) != 2 {
		t.Error("the repetition was carried out")
	}
	if life := check.Must(s.client.TTL(t.Context(), s.keysOf("app").Request("ada", "Update", "app",
		"r1")).Result())(t); life > 24*time.Hour || life < 24*time.Hour-patience {
		t.Errorf("the answer is kept for %v, want 24 h", life)
	}
}

// TestRepeatedAtOnce: of many concurrent copies of a request one is carried out.
func TestRepeatedAtOnce(t *testing.T) {
	s := newSystem(t)
	stores := []*store.Store{s.open(s.redis.URL()), s.open(s.redis.URL())}
	for round := range 20 {
		var group sync.WaitGroup
		var mu sync.Mutex
		firsts := 0
		for copy := range 8 {
			group.Go(func() {
				c := call("app", "made", add(fmt.Sprintf("tok-%d-%d", round, copy)))
				c.Request = store.Request{Identity: "ada", Method: "Create", ID: fmt.Sprint(round), Digest: []byte("content")}
				result, err := stores[copy%2].Update(context.Background(), c)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				if result.Repeated == nil {
					firsts++
				}
			})
		}
		group.Wait()
		if firsts != 1 {
			t.Fatalf("%d of 8 copies were carried out", firsts)
		}
	}
	if changes := s.verifyAll(t); changes != 20 {
		t.Errorf("there are %d changes, want 20", changes)
	}
}
