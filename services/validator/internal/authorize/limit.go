package authorize

import (
	"runtime"
	"sync/atomic"

	"github.com/countersign/countersign/pkg/apierr"
)

// Bound is about how many calls may be in flight. grpc-go gives every call a goroutine from the moment its
// headers are read, and so do calls that nobody has come to yet count. It is the runtime that counts
// goroutines: a call that comes to nothing on its way cannot be left in the count.
type Bound struct {
	// MostInFlight is the bound; 0 is none.
	MostInFlight int
	// AtRest is how many goroutines the process has without connections.
	AtRest int
	// Connections returns how many are open. Each has three goroutines.
	Connections func() int
	// OpenGoroutines returns how many goroutines the calls hold that anyone may make: health and reflection.
	OpenGoroutines func() int
}

// limit is a Bound, and what else has goroutines and costs nothing: streams, which are idle unless they are
// in the middle of a message, and calls whose request has not come yet. A client that opens many of either,
// or many health watches, does not turn others away.
type limit struct {
	Bound
	streams atomic.Int64
}

const (
	ofConnection = 3
	ofStream     = 2
)

// errOverloaded is no decision and no denial: the caller asks another validator, or later.
var errOverloaded = apierr.Exhausted(apierr.Overloaded, "this validator has more calls in flight than it may")

// check fails when there are too many calls in flight.
func (l *limit) check() error {
	if l.MostInFlight == 0 {
		return nil
	}
	// To count goroutines costs next to nothing, and as a rule says enough.
	all := runtime.NumGoroutine()
	if all <= l.MostInFlight || all-l.idle() <= l.MostInFlight {
		return nil
	}
	return errOverloaded
}

func (l *limit) idle() int {
	return l.AtRest + ofConnection*l.Connections() + ofStream*int(l.streams.Load()) + l.OpenGoroutines() + receiving()
}
