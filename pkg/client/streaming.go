package client

import (
	"google.golang.org/grpc"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// The defaults of StreamOptions.
const (
	DefaultStreams  = 2
	DefaultInFlight = 1024
)

// StreamOptions bound the resources of a streaming client. The zero value selects the defaults.
type StreamOptions struct {
	// Streams is how many streams are open while questions are asked. 0 means DefaultStreams. Each stream
	// goes to one validator, so more streams can use more validators. With fewer streams a question is
	// cheaper, because more questions share a message.
	Streams int
	// InFlight is how many questions may be in flight over streams. 0 means DefaultInFlight. Further callers
	// wait in order for a slot, at most until their deadline.
	InFlight int
}

// NewStreaming returns a client that asks the questions of many goroutines over a few streams. A question
// then costs client and validator a fraction of what a call costs. The client is for programs that ask
// thousands of questions a second. The caller must Close it.
//
// Questions that are asked while a message is being sent share the next message. A question never waits for
// other questions to share a message: a single question is sent at once. Answers, errors, deadlines and
// cancellation are the same as with New. Metadata and trace spans of a question's context are not sent, and
// the connection's interceptors see streams instead of questions.
//
// The client asks a question in a call when no stream is open. This is so at first, when the validator does
// not support streams, and for a moment after a stream has failed. It always asks questions with a
// MinRevision in calls. It gives up a stream that has given no answer for a second when a caller's time runs
// out; over a Connection, sooner. When a stream ends, the client asks the unanswered questions again in
// calls, within their deadlines.
//
// The client opens streams on demand and renews them after 30 to 45 s, so that new validators get their
// share. Over a Connection, it asks another validator in a call when a stream does not answer soon, or
// answers with UNAVAILABLE or OVERLOADED. It replaces a stream to a validator in trouble.
func NewStreaming(connection grpc.ClientConnInterface, options StreamOptions) *Client {
	if options.Streams <= 0 {
		options.Streams = DefaultStreams
	}
	if options.InFlight <= 0 {
		options.InFlight = DefaultInFlight
	}
	c := New(connection)
	c.streams = newStreams(c.calls, countersignv1.NewBulkValidatorServiceClient(connection), options)
	return c
}

// Close ends the streams and waits until their goroutines have ended. It leaves the connection open. The
// client asks questions in flight again in calls, and asks later questions in calls. For a client of New,
// Close does nothing. Close may be called more than once.
func (c *Client) Close() {
	if c.streams != nil {
		c.streams.close()
	}
}
