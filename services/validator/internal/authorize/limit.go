package authorize

import (
	"runtime"

	"github.com/countersign/countersign/pkg/apierr"
)

// limit is the most goroutines of the process while calls are answered. grpc-go gives every call a goroutine, from the
// moment its headers are read: their number, the metric go_goroutines, is that of the calls in flight, the few dozen that the
// process needs for itself, three for each connection and two for each stream. It is counted by the runtime, so a call that
// comes to nothing on its way cannot be left in the count, and costs no atomic of ours.
type limit int

// errOverloaded is no decision and no denial: the caller asks another validator, or later.
var errOverloaded = apierr.Exhausted(apierr.Overloaded, "this validator has more calls in flight than it may")

// check fails when there are too many calls in flight.
func (l limit) check() error {
	if l > 0 && runtime.NumGoroutine() > int(l) {
		return errOverloaded
	}
	return nil
}
