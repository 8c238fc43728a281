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

// StreamOptions bound what a streaming client uses. The zero value is the defaults.
type StreamOptions struct {
	// Streams is how many streams are kept while there is something to ask; 0 is DefaultStreams. Each goes
	// to one validator. More of them spread a program's questions over more validators; fewer make each
	// question cheaper, since more are asked together.
	Streams int
	// InFlight is how many questions may be under way at once; 0 is DefaultInFlight. Further callers wait
	// for their turn, in order, until their context ends.
	InFlight int
}

// NewStreaming returns a client like that of New, which sends what many goroutines ask over few streams. A
// question then costs client and validator a fraction of a call. It is for programs that ask thousands of
// times a second.
//
// What is asked while the previous message is being sent goes into one message together; nothing waits for
// others to come, so that a lone question is sent at once. Answers and errors are those of New, also for
// the deadline and the cancellation of a call's context, which others do not notice; but what else a
// context carries, such as metadata and spans, stays behind, and the connection's interceptors see streams
// and not questions.
//
// A question is asked in a call of its own when there is no stream: at first, when the validator serves
// none, and for a moment after one was lost. A stream that ends, or says nothing for a second while a
// caller runs out of time, is given up; what it has not answered is asked once more, in a call, within its
// deadline. Questions with a MinRevision are always asked in calls.
//
// Streams are opened when there is something to ask and renewed every half minute or so, which spreads them
// over validators that have joined. Over a connection of Dial, what a stream does not answer soon, or
// answers with UNAVAILABLE, is asked once more in a call, of another validator, and a stream whose
// validator is in trouble is left for another one.
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

// Close ends the streams and returns when nothing that they use is left; the connection stays open. What is
// being asked, and what is asked later, is asked in calls. A client of New has nothing to close. Close may
// be called more than once.
func (c *Client) Close() {
	if c.streams != nil {
		c.streams.close()
	}
}
