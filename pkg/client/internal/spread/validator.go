package spread

import (
	"sync/atomic"
	"time"

	"google.golang.org/grpc/balancer"
)

const (
	// Hush is how long a validator may owe answers without giving any before it is avoided. Answers take
	// microseconds, and pauses for garbage collection are shorter than this.
	Hush = 100 * time.Millisecond

	// aside is how long a validator in trouble is avoided while others serve. Then it gets one question,
	// which another validator is asked too if the answer is late.
	aside = time.Second

	// refusals is how many refusals in a row mean trouble. A single one may be about one scope.
	refusals = 2
)

// validator is the state of a validator. It is safe for concurrent use. Times are nanoseconds since made.
type validator struct {
	connection balancer.SubConn
	made       time.Time

	owed    atomic.Int64 // questions in flight
	streams atomic.Int64 // open streams
	asked   atomic.Int64 // time of the latest question
	since   atomic.Int64 // time since which it owes answers and has given none; 0 when it owes none
	trouble atomic.Int64 // refusals since its latest answer
	until   atomic.Int64 // time until which it is avoided; 0 when it is not in trouble
}

func newValidator(connection balancer.SubConn) *validator {
	return &validator{connection: connection, made: time.Now()}
}

// usable tells whether to ask the validator at a time.
func (v *validator) usable(now time.Time) bool {
	at := now.Sub(v.made)
	if until := v.until.Load(); until != 0 {
		return at >= time.Duration(until) && v.owed.Load() == 0
	}
	since := v.since.Load()
	return since == 0 || at-time.Duration(since) < Hush || v.rested(at)
}

// rested tells whether the validator was asked nothing for a while. Older unanswered questions do not count
// then.
func (v *validator) rested(at time.Duration) bool {
	return v.owed.Load() == 0 && at-time.Duration(v.asked.Load()) >= Hush
}

func (v *validator) busy(stream bool) int64 {
	if stream {
		return v.streams.Load()
	}
	return v.owed.Load()
}

// ask counts a question.
func (v *validator) ask() {
	at := v.now()
	if v.since.Load() == 0 || v.rested(at) {
		v.since.Store(int64(at))
	}
	v.asked.Store(int64(at))
	v.owed.Add(1)
}

// done counts the outcome of a question.
func (v *validator) done(err error) {
	v.owed.Add(-1)
	switch VerdictOf(err) {
	case Refused:
		v.refused()
	case Lacking:
		v.said()
	case Left:
		// A caller that gives up counts against the validator only when no caller has got an answer for a
		// while.
		if since := v.since.Load(); since != 0 && v.now()-time.Duration(since) >= Hush {
			v.silent()
		}
	default: // a decision, or an error about the question
		v.said()
		if v.trouble.Load() != 0 {
			v.trouble.Store(0)
		}
		if v.until.Load() != 0 {
			v.until.Store(0)
		}
	}
}

// said notes that the validator has answered.
func (v *validator) said() {
	if v.owed.Load() == 0 {
		v.since.Store(0)
	} else {
		v.since.Store(int64(v.now()))
	}
}

func (v *validator) now() time.Duration { return max(time.Since(v.made), 1) }

// refused notes that the validator decides nothing now.
func (v *validator) refused() {
	v.said()
	if v.trouble.Add(1) >= refusals {
		v.silent()
	}
}

// silent makes the policy avoid the validator for a while.
func (v *validator) silent() { v.until.Store(int64(v.now() + aside)) }
