package client

import (
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/pkg/client/internal/spread"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// answer is a call with its outcome: a response or an error.
type answer struct {
	call     *call
	response *countersignv1.AuthorizeResponse
	err      error
}

// result is one answer in a message. The first answer is in the message itself, the others are in its field
// more.
type result interface {
	GetSequence() uint64
	GetResponse() *countersignv1.AuthorizeResponse
	GetError() *countersignv1.AuthorizeError
}

// match appends the answers in a message to a list, each with the call that it answers. It leaves out answers
// whose callers have given up.
func (s *stream) match(message *countersignv1.AuthorizeStreamResponse, to []answer) []answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	owed := len(s.sent)
	to = s.matchOne(message, to)
	for _, further := range message.GetMore() {
		to = s.matchOne(further, to)
	}
	if len(s.sent) < owed {
		s.noteProgress()
		s.answered = true
	}
	return to
}

func (s *stream) matchOne(r result, to []answer) []answer {
	c, owed := s.sent[r.GetSequence()]
	if !owed {
		return to // no unanswered question has this number
	}
	delete(s.sent, r.GetSequence())
	s.load.Add(-1)
	if c == nil {
		return to
	}
	c.state = concluded
	if failed := r.GetError(); failed != nil {
		return append(to, answer{call: c, err: errorOf(failed)})
	}
	return append(to, answer{call: c, response: r.GetResponse()})
}

// errorOf returns the error that a unary call would have returned for the same question.
func errorOf(e *countersignv1.AuthorizeError) error {
	if codes.Code(e.GetCode()) == codes.OK {
		return status.Error(codes.Internal, "the validator answered with an error that is none")
	}
	return status.FromProto(&spb.Status{Code: e.GetCode(), Message: e.GetMessage(), Details: e.GetDetails()}).Err()
}

// abort concludes all unanswered calls with an error. The stream takes no more calls.
func (s *stream) abort() {
	var left []*call
	s.mu.Lock()
	s.closed = true
	silent := s.silent
	for s.queue.length > 0 {
		c := s.queue.first
		s.queue.remove(c)
		left = append(left, c)
	}
	for _, c := range s.sent {
		if c != nil {
			left = append(left, c)
		}
	}
	clear(s.sent)
	for _, c := range left {
		c.state = concluded
	}
	s.mu.Unlock()
	why := errUnanswered
	if silent && s.calls.again != nil {
		why = errSilent
	}
	for _, c := range left {
		c.conclude(nil, why)
	}
}

// refusing counts refusals in a row, and reports whether there are too many of them. It is not safe for
// concurrent use.
func (s *stream) refusing(answers []answer) bool {
	for _, a := range answers {
		switch verdict := spread.VerdictOf(a.err); {
		case verdict == spread.Refused:
			s.refused++
		case verdict != spread.Lacking && s.refused < refusals:
			s.refused = 0
		}
	}
	return s.refused >= refusals
}
