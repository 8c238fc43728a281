package authorize

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/validator"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// stream is one call to AuthorizeStream. What needs no waiting is decided where it is received, message by message,
// without a goroutine, and with nothing allocated but what the message consists of.
type stream struct {
	*Bulk
	ctx  context.Context
	grpc grpc.ServerStream
	// panicked has what a goroutine of the stream has panicked with, and its stack.
	panicked chan string
	waiters  sync.WaitGroup
	waiting  atomic.Int64 // how many of those there are

	mu      sync.Mutex // held to answer a message, and to send: one goroutine at a time may
	ended   bool
	answers answers
}

func newStream(ctx context.Context, b *Bulk, on grpc.ServerStream) *stream {
	return &stream{Bulk: b, ctx: ctx, grpc: on, panicked: make(chan string, 1)}
}

// guard runs a function and keeps what it panics with for the handler.
func (s *stream) guard(f func()) {
	defer func() {
		if value := recover(); value != nil {
			select {
			case s.panicked <- fmt.Sprintf("%v\n%s", value, debug.Stack()):
			default:
			}
		}
	}()
	f()
}

// end returns when the message in hand is answered, and all that wait are. Later messages are not.
func (s *stream) end() {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.waiters.Wait()
}

// receive answers what comes until the client closes its side, which is no error. While the client does not read its
// answers, sending them blocks, so that nothing more of its stream is read either.
func (s *stream) receive() error {
	message := new(countersignv1.AuthorizeStreamRequest)
	for {
		if err := s.grpc.RecvMsg(message); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := s.answer(message); err != nil {
			return err
		}
	}
}

// answer answers one message with one message, but for the requests that have to wait.
func (s *stream) answer(message *countersignv1.AuthorizeStreamRequest) error {
	sequence, more := message.GetSequence(), message.GetMore()
	if 1+len(more) > MaxRequests {
		return errTooManyInOne
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return nil
	}
	s.answers.clear()
	s.decide(sequence, message.GetRequest())
	for i, r := range more {
		s.decide(sequence+1+uint64(i), r)
	}
	if s.answers.empty() {
		return nil
	}
	return s.grpc.SendMsg(s.answers.message())
}

// noWaiting is a context that is done: with it, a request for a revision that is not there yet is turned down at once.
var noWaiting = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// decide adds the answer to a request, unless it has to wait.
func (s *stream) decide(sequence uint64, r *countersignv1.AuthorizeRequest) {
	ctx := s.ctx
	if r.GetMinRevision() != "" {
		ctx = noWaiting
	}
	answer, err := s.service.ask(ctx, r)
	if r.GetMinRevision() != "" && apierr.ReasonOf(err) == apierr.RevisionNotReached {
		if s.wait(sequence, r) {
			return
		}
		err = errTooManyWaiting
	}
	s.conclude(&s.answers, sequence, r, answer, err)
}

// conclude counts what a request was answered, and adds it to a message.
func (s *stream) conclude(
	in *answers, sequence uint64, r *countersignv1.AuthorizeRequest, answer validator.Answer, err error,
) {
	s.service.count(r, answer, err)
	if err != nil {
		in.failed(sequence, s.server.Tell(s.ctx, err))
		return
	}
	in.decided(sequence, answer)
}

// wait answers a request later, in a message of its own; false when too many wait. Unmarshalling makes new requests for
// each message, so this one stays as it is.
func (s *stream) wait(sequence uint64, r *countersignv1.AuthorizeRequest) bool {
	if s.waiting.Add(1) > maxWaitingOfOne {
		s.waiting.Add(-1)
		return false
	}
	select {
	case s.Bulk.waiting <- struct{}{}:
	default:
		s.waiting.Add(-1)
		return false
	}
	s.waiters.Go(func() {
		s.guard(func() {
			defer func() {
				<-s.Bulk.waiting
				s.waiting.Add(-1)
			}()
			answer, err := s.service.ask(s.ctx, r)
			var late answers
			s.conclude(&late, sequence, r, answer, err)
			s.mu.Lock()
			defer s.mu.Unlock()
			// Why a stream does not take an answer any more is what its receiving returns.
			_ = s.grpc.SendMsg(late.message())
		})
	})
	return true
}
