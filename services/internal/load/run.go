package load

import (
	"context"
	"sync"
	"time"
)

// answerTimeout is how long a run waits for answers after its last call was sent.
const answerTimeout = 10 * time.Second

// unanswered is the reason of calls that are still in flight after answerTimeout.
const unanswered = "NO_ANSWER"

// run is a run against one server.
type run struct {
	caller Caller
	deck   *Deck
	began  time.Time
	// again tells whether a call that is done at the given time continues with another question. mu is held.
	again func(at time.Duration) bool

	mu       sync.Mutex
	result   *Result
	sent     uint64
	inFlight int
	free     []*Call
	stopped  bool // no more calls are sent
	over     bool // no more results are counted
	ended    chan struct{}
}

func newRun(caller Caller, deck *Deck) *run {
	return &run{caller: caller, deck: deck, began: time.Now(), result: newResult(), ended: make(chan struct{})}
}

func (r *run) passed() time.Duration { return time.Since(r.began) }

// done counts the result of a call, and continues it with another question.
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
	r.inFlight--
	r.free = append(r.free, c)
	last := r.stopped && r.inFlight == 0
	r.mu.Unlock()
	if last {
		close(r.ended)
	}
}

// finish waits for the calls in flight and returns the result. It does not stop waiting at the end of ctx: a
// call that was sent is answered, or counted as unanswered.
func (r *run) finish() *Result {
	r.mu.Lock()
	r.stopped = true
	waiting := r.inFlight > 0
	r.mu.Unlock()
	if waiting {
		timer := time.NewTimer(answerTimeout)
		defer timer.Stop()
		select {
		case <-r.ended:
		case <-timer.C:
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
	if r.inFlight > 0 {
		r.result.Errors[unanswered] += uint64(r.inFlight)
		r.result.Elapsed = r.passed()
	}
	return r.result
}

// Closed keeps a number of calls in flight: each answer is followed by the next call, until a limit is
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
	r.sent, r.inFlight = uint64(slots), slots
	for slot := range slots {
		caller.Start(&Call{Slot: slot, Question: deck.take(), due: r.passed(), run: r})
	}
	caller.Flush()
	// Answers drive the run. The timer ends it when the server gives none.
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
