package spread

import (
	"sync/atomic"
	"time"

	"google.golang.org/grpc/balancer"
)

const (
	// Hush is how long a validator may owe answers and give none before it is left alone. It answers in
	// microseconds; a pause of its garbage collector or of its machine is shorter.
	Hush = 100 * time.Millisecond

	// aside is how long a validator in trouble is asked nothing while there are others. Then it gets one
	// question, which is asked elsewhere, too, when it is not answered soon.
	aside = time.Second

	// refusals is how many refusals in a row are trouble. A single one may be about one scope.
	refusals = 2
)

// validator is what is known of one. Its methods are safe for concurrent use. Times are nanoseconds since
// it was made.
type validator struct {
	connection balancer.SubConn
	made       time.Time

	owed    atomic.Int64 // questions under way
	streams atomic.Int64 // open ones
	asked   atomic.Int64 // when it was asked last
	since   atomic.Int64 // since when it has owed answers and given none; 0: it owes nothing
	trouble atomic.Int64 // refusals since it answered last
	until   atomic.Int64 // when it may be asked again; 0: it is not in trouble
}

func newValidator(connection balancer.SubConn) *validator {
	return &validator{connection: connection, made: time.Now()}
}

// usable tells whether to ask it at a time.
func (v *validator) usable(now time.Time) bool {
	at := now.Sub(v.made)
	if until := v.until.Load(); until != 0 {
		return at >= time.Duration(until) && v.owed.Load() == 0
	}
	since := v.since.Load()
	return since == 0 || at-time.Duration(since) < Hush || v.rested(at)
}

// rested tells whether it was asked nothing for a while. That questions of before were given up says
// nothing then.
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

// done counts what became of a question.
func (v *validator) done(err error) {
	v.owed.Add(-1)
	switch VerdictOf(err) {
	case Refused:
		v.refused()
	case Lacking:
		v.said()
	case Left:
		// That says something only when nobody has got an answer for a while.
		if since := v.since.Load(); since != 0 && v.now()-time.Duration(since) >= Hush {
			v.silent()
		}
	default: // a decision, or an error that is about the question
		v.said()
		if v.trouble.Load() != 0 {
			v.trouble.Store(0)
		}
		if v.until.Load() != 0 {
			v.until.Store(0)
		}
	}
}

// said notes that it has said something.
func (v *validator) said() {
	if v.owed.Load() == 0 {
		v.since.Store(0)
	} else {
		v.since.Store(int64(v.now()))
	}
}

func (v *validator) now() time.Duration { return max(time.Since(v.made), 1) }

// refused notes that it decides nothing now.
func (v *validator) refused() {
	v.said()
	if v.trouble.Add(1) >= refusals {
		v.silent()
	}
}

// silent leaves the validator alone for a while.
func (v *validator) silent() { v.until.Store(int64(v.now() + aside)) }
