package authorize

import (
	"runtime"
	"sync/atomic"

	"github.com/countersign/countersign/pkg/apierr"
)

// Bound bounds the calls in flight. It counts goroutines, since grpc-go gives every call a goroutine as
// soon as it has read the headers. So calls that no handler has taken yet count too, and a call that fails
// early cannot stay in the count.
type Bound struct {
	// MostInFlight is about how many calls may be in flight. 0 means no bound.
	MostInFlight int
	// AtRest is how many goroutines the process has when it has no connections.
	AtRest int
	// Connections returns how many connections are open.
	Connections func() int
	// OpenGoroutines returns how many goroutines serve calls that anyone may make: health and reflection.
	OpenGoroutines func() int
}

// limit is a Bound that does not count idle goroutines: streams between two messages, calls whose request
// has not arrived, and health watches. So a client that opens many of them does not make others fail.
type limit struct {
	Bound
	streams atomic.Int64
}

// The goroutines of a connection and of a stream.
const (
	ofConnection = 3
	ofStream     = 2
)

// errOverloaded is not a denial: the caller asks another validator, or later.
var errOverloaded = apierr.Exhausted(apierr.Overloaded, "this validator has more calls in flight than it may")

// check fails when too many calls are in flight.
func (l *limit) check() error {
	if l.MostInFlight == 0 {
		return nil
	}
	// Counting all goroutines costs next to nothing. The exact count is only needed near the bound.
	all := runtime.NumGoroutine()
	if all <= l.MostInFlight || all-l.idle() <= l.MostInFlight {
		return nil
	}
	return errOverloaded
}

func (l *limit) idle() int {
	return l.AtRest + ofConnection*l.Connections() + ofStream*int(l.streams.Load()) + l.OpenGoroutines() + receiving()
}
