package load

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// Arrivals is how the calls of an open loop follow each other.
type Arrivals string

const (
	// Poisson calls are independent of each other, like the calls of many users: the times between them have
	// an exponential distribution.
	Poisson Arrivals = "poisson"
	// Constant calls come at even intervals.
	Constant Arrivals = "constant"
)

// Type returns the placeholder of the value in help texts.
func (*Arrivals) Type() string { return "word" }

// String returns the word.
func (a *Arrivals) String() string { return string(*a) }

// Set parses a word.
func (a *Arrivals) Set(text string) error {
	if one := Arrivals(text); one == Poisson || one == Constant {
		*a = one
		return nil
	}
	return fmt.Errorf("want %s or %s", Poisson, Constant)
}

// Schedule says when calls are due. It is for one goroutine.
type Schedule struct {
	rate     float64
	arrivals Arrivals
	random   *rand.Rand
	n        uint64
	at       float64 // seconds
}

// NewSchedule returns a schedule with an average rate in calls a second, which must be above 0. The same seed
// gives the same schedule.
func NewSchedule(rate float64, arrivals Arrivals, seed uint64) *Schedule {
	return &Schedule{rate: rate, arrivals: arrivals, random: rand.New(rand.NewPCG(seed, 1))}
}

// Next returns when the next call is due, counted from the start.
func (s *Schedule) Next() time.Duration {
	if s.arrivals == Constant {
		s.at = float64(s.n) / s.rate
		s.n++
	} else {
		s.at += s.random.ExpFloat64() / s.rate
	}
	return time.Duration(s.at * float64(time.Second))
}
