package ledger

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/usage"
)

// TestB21_EveryDecisionIsCountedOnce is the model of exactly-once in fake time: validators hand their counts
// over to two authorities, while requests and replies are lost and late, validators change their authority,
// and Redis fails over. In the end every decision is counted once.
func TestB21_EveryDecisionIsCountedOnce(t *testing.T) {
	for seed := range uint64(25) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { newModel(seed).run(t, 10*time.Second) })
		})
	}
}

// TestB21_LostCountsAreNeverHidden is the same model with a Redis that loses more than validators hold: where
// a decision is missing in the end, the counts say that they begin later.
func TestB21_LostCountsAreNeverHidden(t *testing.T) {
	for seed := range uint64(25) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { newModel(seed).run(t, 5*time.Minute) })
		})
	}
}

// model is a fleet with its Redis.
type model struct {
	storage *memory
	ledgers []*Ledger

	mu     sync.Mutex
	random *rand.Rand
	faults bool
	sent   map[string]map[Kind]uint64
}

func newModel(seed uint64) *model {
	return &model{
		storage: newMemory(), random: rand.New(rand.NewPCG(seed, 0)), faults: true, sent: map[string]map[Kind]uint64{},
	}
}

func (m *model) n(n int) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.random.IntN(n)
}

// happens reports whether a fault happens, one time of some.
func (m *model) happens(of int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.faults && m.random.IntN(of) == 0
}

// run runs the model. Redis loses at most so much at once.
func (m *model) run(t *testing.T, loses time.Duration) {
	m.storage.trouble = func(string) error {
		time.Sleep(time.Duration(m.n(20)) * time.Millisecond)
		if m.happens(100) {
			time.Sleep(time.Duration(m.n(12)) * time.Second)
		}
		if m.happens(15) {
			return errLost
		}
		return nil
	}
	for range 2 {
		l := open(m.storage, time.Now)
		stop := run(l)
		defer stop()
		m.ledgers = append(m.ledgers, l)
	}
	var validators sync.WaitGroup
	began := time.Now()
	for i := range 3 {
		validators.Go(func() { m.validate(t, fmt.Sprint("instance-", i)) })
	}
	for time.Since(began) < 10*time.Minute {
		time.Sleep(time.Duration(20+m.n(60)) * time.Second)
		m.storage.failover(time.Now().Add(-time.Duration(m.n(int(loses.Milliseconds()))) * time.Millisecond))
	}
	m.mu.Lock()
	m.faults = false
	m.mu.Unlock()
	validators.Wait()
	for app, want := range m.sent {
		h, err := m.ledgers[0].App(t.Context(), app)
		if err != nil {
			t.Fatal(err)
		}
		sums, _ := h.Sums(began)
		got := map[Kind]uint64{}
		for _, s := range sums {
			got[s.Kind] = s.N
		}
		begun := h.Counted().Since.Sub(began)
		if loses > usage.ConfirmAfter && begun > time.Second {
			continue
		}
		if begun > time.Second {
			t.Errorf("%s: the counts are said to begin after %v, and nothing was lost", app, begun)
		}
		for kind, n := range want {
			if got[kind] != n {
				t.Errorf("%s: %d decisions %+v are counted, want %d", app, got[kind], kind, n)
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s: %d kinds, want %d", app, len(got), len(want))
		}
	}
}

// decide returns the counts of some decisions.
func (m *model) decide() (counts []usage.Count) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for range m.random.IntN(4) {
		c := usage.Count{
			AppID:   appIn(m.random.IntN(partitions), m.random.IntN(2)),
			TokenID: []string{"", "tok_aaaaaaaaaaaaaaaa"}[m.random.IntN(2)],
			Scope:   policy.Scope(1 + m.random.IntN(2)), Reason: policy.TokenValid, Minute: time.Now().Truncate(time.Minute),
			N: 1 + m.random.Uint64N(3),
		}
		if m.sent[c.AppID] == nil {
			m.sent[c.AppID] = map[Kind]uint64{}
		}
		m.sent[c.AppID][Kind{c.TokenID, c.Scope, c.Reason, c.Enforced}] += c.N
		counts = append(counts, c)
	}
	return counts
}

// validate decides and hands over, as a validator does, until no fault happens any more and all is confirmed.
func (m *model) validate(t *testing.T, instance string) {
	o := usage.NewOutbox(partitions, partitionOf)
	type answer struct {
		stream, partition int
		number            uint64
	}
	answers := make(chan answer, 1000)
	var calls sync.WaitGroup
	defer calls.Wait()
	stream := 0
	authority := m.ledgers[0]
	next := time.Now()
	for {
		now := time.Now()
		m.mu.Lock()
		faults := m.faults
		m.mu.Unlock()
		if faults && !now.Before(next) {
			o.Put(m.decide(), true, now)
			next = now.Add(10 * time.Second)
		}
		if !faults && o.Stats().Counts == 0 {
			if until := o.CompleteUntil(); until.Before(now.Add(-10 * time.Minute)) {
				t.Errorf("complete until %v", until)
			}
			return
		}
		if m.happens(200) {
			stream++
			authority = m.ledgers[m.n(2)]
			o.Reconnected()
		}
		if b, due := o.Next(now); due && !m.happens(10) {
			of, to := stream, authority
			calls.Go(func() {
				number, err := to.Add(context.Background(), instance, &b)
				if err == nil && !m.happens(10) {
					answers <- answer{of, b.Partition, number}
				}
			})
		}
		select {
		case a := <-answers:
			if a.stream == stream {
				o.Acknowledge(a.partition, a.number, time.Now())
			}
		case <-time.After(100 * time.Millisecond):
		}
	}
}
