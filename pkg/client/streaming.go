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
	// Streams is how many streams are open while questions are asked. 0 means DefaultStreams. Each goes to
	// one validator. More streams use more validators. Fewer streams make a question cheaper, since more
	// questions share a message.
	Streams int
	// InFlight is how many questions may be in flight. 0 means DefaultInFlight. Further callers wait in
	// order, until their context ends.
	InFlight int
}

// NewStreaming returns a client that asks the questions of many goroutines over few streams. A question
// then costs client and validator a fraction of a call. It is for programs that ask thousands of questions
// a second. The caller must Close it.
//
// Questions that are asked while a message is being sent share the next message. A question never waits for
// others, so a lone question is sent at once. Answers, errors, deadlines and cancellation are the same as
// with New. Metadata and trace spans of a question's context are not sent, and the connection's
// interceptors see streams instead of questions.
//
// A question is asked in a call when no stream is open: at first, when the validator serves no streams, and
// for a moment after a stream has failed. Questions with a MinRevision are always asked in calls. A stream
// is given up when it ends, or when it has been silent for a second while a caller runs out of time. Its
// unanswered questions are then asked again in calls, within their deadlines.
//
// Streams are opened on demand and renewed after 30 to 45 s, so that validators that have joined get their
// share. Over a Connection, a question that a stream does not answer soon, or answers with UNAVAILABLE, is
// asked again in a call, of another validator. A stream to a validator in trouble is replaced.
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

// Close ends the streams and waits until their goroutines have ended. It leaves the connection open.
// Questions in flight and later questions are asked in calls. For a client of New, Close does nothing. It
// may be called again.
func (c *Client) Close() {
	if c.streams != nil {
		c.streams.close()
	}
}
