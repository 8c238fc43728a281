package load

import (
	"errors"
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/countersign/countersign/pkg/client"
)

const (
	// longest is the longest time in a histogram. A longer time counts as this one.
	longest = time.Minute
	// digits is the number of significant decimal digits of a time in a histogram.
	digits = 3
	// examples is the number of wrong answers that are described.
	examples = 5
)

// Result is the result of a run.
type Result struct {
	// Answered is the number of calls with an answer. Wrong of them had a wrong answer.
	Answered, Wrong uint64
	// Examples describe some of the wrong answers. They contain no secret.
	Examples []string
	// Errors is the number of calls without an answer, by reason.
	Errors map[string]uint64
	// Elapsed is the time from the first call to the last answer.
	Elapsed time.Duration
	// Latency has the times from when a call was due to its answer, in nanoseconds. In a closed loop, a call
	// is due when the call before it is answered. In an open loop, it is due when the schedule says so,
	// however late it is sent.
	Latency *hdrhistogram.Histogram
	// Late has the times from when a call of an open loop was due to its sending, in nanoseconds. The
	// generator causes this part of the latency.
	Late *hdrhistogram.Histogram
}

// NewHistogram returns an empty histogram for times in nanoseconds.
func NewHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, int64(longest), digits) }

// Failed returns the number of calls without an answer.
func (r *Result) Failed() (n uint64) {
	for _, count := range r.Errors {
		n += count
	}
	return n
}

// Rate returns the number of answers a second.
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

// record counts the result of a call.
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
		r.Examples = append(r.Examples, fmt.Sprintf("app %s, scope %s: %s, want %s",
			q.Request.GetAppId(), q.Request.GetScope(), answer, q.Want))
	}
}

func keep(h *hdrhistogram.Histogram, took time.Duration) {
	_ = h.RecordValue(int64(min(max(took, 1), longest))) // it fails only outside of these bounds
}
