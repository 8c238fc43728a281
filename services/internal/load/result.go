package load

import (
	"errors"
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/countersign/countersign/pkg/client"
)

const (
	// longest is the longest time that a histogram holds; what takes longer counts as that.
	longest = time.Minute
	// digits is how many significant decimal digits of a time a histogram keeps.
	digits = 3
	// examples is how many wrong answers are told in words.
	examples = 5
)

// Result is what came of a run.
type Result struct {
	// Answered is how many calls got an answer, Wrong how many of these another one than was right.
	Answered, Wrong uint64
	// Examples are some of the wrong answers, in words. They hold no secret.
	Examples []string
	// Errors counts the calls without an answer, by reason.
	Errors map[string]uint64
	// Elapsed is the time from the first call to the last answer.
	Elapsed time.Duration
	// Latency has the times from when a call was due to its answer, in nanoseconds. In a closed loop a call
	// is due when the one before it is answered, in an open one when the schedule says so, however late it
	// was sent.
	Latency *hdrhistogram.Histogram
	// Late has by how much calls of an open loop were sent after they were due, in nanoseconds: what of the
	// latency may be the generator's.
	Late *hdrhistogram.Histogram
}

// NewHistogram returns an empty histogram for times in nanoseconds.
func NewHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, int64(longest), digits) }

// Failed returns how many calls got no answer.
func (r *Result) Failed() (n uint64) {
	for _, count := range r.Errors {
		n += count
	}
	return n
}

// Rate returns how many answers there were a second.
func (r *Result) Rate() float64 {
	if r.Elapsed <= 0 {
		return 0
	}
	return float64(r.Answered) / r.Elapsed.Seconds()
}

// ErrWrong tells that a server decided wrongly.
var ErrWrong = errors.New("wrong decisions")

// WrongError describes the wrong answers, with examples; nil when all answers were right.
func (r *Result) WrongError() error {
	if r.Wrong == 0 {
		return nil
	}
	return fmt.Errorf("%w: %d of %d: %v", ErrWrong, r.Wrong, r.Answered, r.Examples)
}

func newResult() *Result {
	return &Result{Errors: map[string]uint64{}, Latency: NewHistogram(), Late: NewHistogram()}
}

// record counts what came of a call that took so long.
func (r *Result) record(q *Question, answer Answer, err error, took time.Duration) {
	if err != nil {
		r.Errors[client.Reason(err)]++
		return
	}
	r.Answered++
	keep(r.Latency, took)
	if answer.satisfies(q.Want) {
		return
	}
	r.Wrong++
	if len(r.Examples) < examples {
		r.Examples = append(r.Examples, fmt.Sprintf("app %s, scope %s: %s, want %s", q.Request.GetAppId(), q.Request.GetScope(), answer, q.Want))
	}
}

func keep(h *hdrhistogram.Histogram, took time.Duration) {
	_ = h.RecordValue(int64(min(max(took, 1), longest))) // an error only out of these bounds
}
