package load

import "time"

// Caller asks one server. It must be safe for concurrent use.
//
// Unary makes plain gRPC calls. Another implementation may wrap a client that manages its own connections:
// its Start gives the call's question to the client, and calls Done with the result.
type Caller interface {
	// Start sends or queues a call, and does not wait for the answer. It leads to exactly one call of Done,
	// from any goroutine, but not from within Start. Done may start more calls.
	Start(call *Call)
	// Flush sends the queued calls. Calls that Done starts are sent without it.
	Flush()
	// Close ends the connections. Calls in flight fail.
	Close() error
}

// Call is one call of a run. It is reused for another call after Done.
type Call struct {
	// Question is the question of the call.
	Question *Question
	// Slot spreads calls over connections: calls of the same slot should share a connection.
	Slot int

	// due is when the call should be sent, counted from the start of the run.
	due time.Duration
	run *run
}

// Done reports the result of the call: an answer, or an error.
func (c *Call) Done(answer Answer, err error) { c.run.done(c, answer, err) }

// Limits bound a run. A limit of 0 is none; at least one must be set.
type Limits struct {
	// Calls is the number of calls to send.
	Calls uint64 `json:"calls"`
	// Time is how long calls are sent.
	Time time.Duration `json:"timeNanos"`
}

// reached tells whether no more calls may be sent.
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
