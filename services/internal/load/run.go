package load

import (
	"context"
	"sync"
	"time"
)

// patience is how long a run waits for answers after its last call was sent.
const patience = 10 * time.Second

// unanswered is the reason of calls that were still under way then.
const unanswered = "NO_ANSWER"

// run is one run against one server.
type run struct {
	caller Caller
	deck   *Deck
	began  time.Time
	// again is asked, with mu held, whether a call that is done at a time goes on with another question.
	again func(at time.Duration) bool

	mu       sync.Mutex
	result   *Result
	sent     uint64
	underWay int
	free     []*Call
	stopped  bool // no more calls are sent
	over     bool // and none is counted any more
	ended    chan struct{}
}

func newRun(caller Caller, deck *Deck) *run {
	return &run{caller: caller, deck: deck, began: time.Now(), result: newResult(), ended: make(chan struct{})}
}

func (r *run) passed() time.Duration { return time.Since(r.began) }

// done counts what came of a call, and goes on with it.
func (r *run) done(c *Call, answer Answer, err error) {
	at := r.passed()
	r.mu.Lock()
	if r.over {
		r.mu.Unlock()
		return
	}
	r.result.record(c.Question, answer, err, at-c.due)
	if !r.stopped && r.again(at) {
		r.sent++
		c.Question, c.due = r.deck.take(), at
		r.mu.Unlock()
		r.caller.Start(c)
		return
	}
	r.result.Elapsed = at
	r.underWay--
	r.free = append(r.free, c)
	last := r.stopped && r.underWay == 0
	r.mu.Unlock()
	if last {
		close(r.ended)
	}
}

// finish waits for the calls under way, when all are sent, and returns the result. The end of ctx is no
// reason to wait shorter: what was sent is answered, or counted as lost.
func (r *run) finish() *Result {
	r.mu.Lock()
	r.stopped = true
	waiting := r.underWay > 0
	r.mu.Unlock()
	if waiting {
		timer := time.NewTimer(patience)
		defer timer.Stop()
		select {
		case <-r.ended:
		case <-timer.C:
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
	if r.underWay > 0 {
		r.result.Errors[unanswered] += uint64(r.underWay)
		r.result.Elapsed = r.passed()
	}
	return r.result
}

// Closed keeps a number of calls under way: each answer is followed by the next call, until a limit is
// reached or ctx ends. The caller stays open.
func Closed(ctx context.Context, caller Caller, deck *Deck, limits Limits, inFlight int) *Result {
	r := newRun(caller, deck)
	finished := make(chan struct{})
	idle := 0
	r.again = func(at time.Duration) bool {
		if ctx.Err() == nil && !limits.reached(r.sent, at) {
			return true
		}
		if idle++; idle == 1 {
			close(finished)
		}
		return false
	}
	slots := inFlight
	if limits.Calls > 0 {
		slots = int(min(uint64(slots), limits.Calls))
	}
	r.sent, r.underWay = uint64(slots), slots
	for slot := range slots {
		caller.Start(&Call{Slot: slot, Question: deck.take(), due: r.passed(), run: r})
	}
	caller.Flush()
	// Answers drive the run; a server that gives none must not hold it up for ever.
	var late <-chan time.Time
	if limits.Time > 0 {
		timer := time.NewTimer(limits.Time)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case <-finished:
	case <-late:
	case <-ctx.Done():
	}
	return r.finish()
}
