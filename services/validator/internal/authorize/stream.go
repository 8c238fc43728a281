package authorize

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/grpcserver"
	"github.com/countersign/countersign/pkg/validator"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/validator/internal/wire"
)

// stream is one call to AuthorizeStream. What needs no waiting is decided where it is received, message by
// message, without a goroutine, and with nothing allocated but what the message consists of.
type stream struct {
	*Bulk
	ctx  context.Context
	grpc grpc.ServerStream
	// messages are read in two steps where framed says so: a stream between two messages may be idle for
	// long.
	messages grpcserver.Messages
	framed   bool
	receiver receiver
	// panicked has what a goroutine of the stream has panicked with, and its stack.
	panicked chan string
	waiters  sync.WaitGroup
	waiting  atomic.Int64 // how many of those there are

	mu      sync.Mutex // held to answer a message, and to send: one goroutine at a time may
	ended   bool
	answers wire.Answers
	// response is filled for each answer of answers.
	response wire.Response
}

func newStream(ctx context.Context, b *Bulk, on grpc.ServerStream) *stream {
	s := &stream{Bulk: b, ctx: ctx, grpc: on, receiver: newReceiver(), panicked: make(chan string, 1)}
	s.messages, s.framed = grpcserver.MessagesOf(ctx)
	return s
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

// receive answers what comes until the client closes its side, which is no error. While the client does not
// read its answers, sending them blocks, so that nothing more of its stream is read either.
func (s *stream) receive() error {
	message := new(wire.Requests)
	defer message.Free()
	for {
		if err := s.read(message); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		err := s.answer(message)
		message.Free() // an idle stream holds no secrets
		if err != nil {
			return err
		}
	}
}

var codec = wire.NewCodec()

// read reads a message, which has messageTimeout to arrive once its length is there.
func (s *stream) read(message *wire.Requests) error {
	if !s.framed {
		return s.grpc.RecvMsg(message)
	}
	size, err := s.messages.Next()
	if err != nil {
		return err
	}
	if size > grpcserver.AuthorizeMaxReceive {
		return errTooLarge
	}
	s.receiver.begin(s.ctx)
	data, err := s.messages.Read(size)
	s.receiver.end()
	if err != nil {
		return err
	}
	defer data.Free()
	return codec.Unmarshal(data, message)
}

// answer answers one message with one message, but for the requests that have to wait.
func (s *stream) answer(message *wire.Requests) error {
	if len(message.List) == 1 && message.List[0].Unreadable {
		return errUnreadable // nobody knows which answers its caller waits for
	}
	if len(message.List) > MaxRequests {
		return errTooManyInOne
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return nil
	}
	s.answers.Clear()
	for i := range message.List {
		s.decide(message.Sequence+uint64(i), &message.List[i])
	}
	if s.answers.Empty() {
		return nil
	}
	return s.grpc.SendMsg(&s.answers)
}

// decide adds the answer to a request, unless it has to wait.
func (s *stream) decide(sequence uint64, r *wire.Request) {
	ctx := s.ctx
	if r.MinRevision != "" {
		ctx = noWaiting
	}
	answer, took, err := s.service.ask(ctx, r)
	if r.MinRevision != "" && apierr.ReasonOf(err) == apierr.RevisionNotReached {
		if s.wait(sequence, r.Keep()) {
			return
		}
		err = errTooManyWaiting
	}
	s.conclude(&s.answers, &s.response, sequence, r, answer, took, err)
}

// conclude counts what a request was answered, and adds it to a message.
func (s *stream) conclude(
	in *wire.Answers, response *wire.Response, sequence uint64, r *wire.Request, answer validator.Answer, took time.Duration, err error,
) {
	s.service.count(r, answer, took, err)
	if err != nil {
		told := s.server.StatusOf(s.ctx, err)
		in.Fail(sequence, &countersignv1.AuthorizeError{
			Code: int32(told.Code()), Reason: apierr.ReasonOf(told.Err()), Message: told.Message(), Details: told.Proto().GetDetails(),
		})
		return
	}
	fill(response, answer)
	in.Add(sequence, response)
}

// wait answers a request, which must stay as it is, later, in a message of its own; false when too many wait.
func (s *stream) wait(sequence uint64, r *wire.Request) bool {
	if s.waiting.Add(1) > maxWaitingOfOne {
		s.waiting.Add(-1)
		return false
	}
	if !s.service.waiting.enter() {
		s.waiting.Add(-1)
		return false
	}
	s.waiters.Go(func() {
		s.guard(func() {
			defer s.waiting.Add(-1)
			answer, took, err := s.askLate(r)
			var late wire.Answers
			s.conclude(&late, new(wire.Response), sequence, r, answer, took, err)
			s.mu.Lock()
			defer s.mu.Unlock()
			// Why a stream does not take an answer any more is what its receiving returns.
			_ = s.grpc.SendMsg(&late)
		})
	})
	return true
}

// askLate asks once more, and waits. It releases the slot before anything is sent, so that a slow reader
// blocks nobody.
func (s *stream) askLate(r *wire.Request) (validator.Answer, time.Duration, error) {
	defer s.service.waiting.leave()
	return s.service.ask(s.ctx, r)
}
