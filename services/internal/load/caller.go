package load

import "time"

// Caller asks one server. It must be safe for concurrent use.
//
// Unary is the one over plain gRPC calls. A client with its own idea of how calls share connections is
// another: its Start hands the question of a call to the client, and calls Done with what comes of it.
type Caller interface {
	// Start sends a call, or lines it up, and does not wait for the answer. Done of the call is called
	// exactly once, by any goroutine but not from within Start; more calls may be started from there.
	Start(call *Call)
	// Flush sends what is lined up. What is started from within Done is sent without it.
	Flush()
	// Close ends the connections. Calls under way end with an error.
	Close() error
}

// Call is one call of a run, and used again for another when it is done.
type Call struct {
	// Question is what is asked.
	Question *Question
	// Slot spreads calls over connections: those of one slot should share one.
	Slot int

	// due is when the call was to be sent, counted from the start of the run.
	due time.Duration
	run *run
}

// Done tells what came of the call: an answer, or an error when there is none.
func (c *Call) Done(answer Answer, err error) { c.run.done(c, answer, err) }

// Limits bound a run; what is 0 does not. One of the two must be there.
type Limits struct {
	// Calls is how many calls are sent.
	Calls uint64 `json:"calls"`
	// Time is how long calls are sent.
	Time time.Duration `json:"timeNanos"`
}

// reached tells whether a call more would be one too many.
func (l Limits) reached(sent uint64, passed time.Duration) bool {
	return l.Calls > 0 && sent >= l.Calls || l.Time > 0 && passed >= l.Time
}

// Bounds of what a generator can do, for the options of its users.
const (
	// MaxConnections is the most connections of a caller, MaxInFlight the most calls in flight on them.
	MaxConnections = 1024
	MaxInFlight    = 16384
	// MaxRate is the most calls a second of an open loop.
	MaxRate = 1_000_000
)
