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

// stream is one call to AuthorizeStream. The goroutine that receives a message also decides its requests
// and sends the answers, except for requests that have to wait. Deciding allocates nothing.
type stream struct {
	*Bulk
	ctx  context.Context
	grpc grpc.ServerStream
	// messages, when framed is true, reads a message in two steps, since a stream may be idle for long before
	// the first.
	messages grpcserver.Messages
	framed   bool
	receiver receiver
	// panicked gets the value and the stack of a goroutine of the stream that has panicked.
	panicked chan string
	waiters  sync.WaitGroup
	waiting  atomic.Int64 // the number of waiters

	mu      sync.Mutex // held to answer a message and to send, which only one goroutine may do at a time
	ended   bool
	answers wire.Answers
}

func newStream(ctx context.Context, b *Bulk, on grpc.ServerStream) *stream {
	s := &stream{Bulk: b, ctx: ctx, grpc: on, receiver: newReceiver(), panicked: make(chan string, 1)}
	s.messages, s.framed = grpcserver.MessagesOf(ctx)
	return s
}

// guard runs a function and passes a panic to the handler.
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

// end makes the stream ignore further messages. It returns after the current message and all waiting
// requests were answered.
func (s *stream) end() {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.waiters.Wait()
}

// receive answers messages until the client closes its side, which is not an error. Sending blocks while
// the client does not read its answers; the stream then reads no further message.
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
		message.Free() // an idle stream must hold no secrets
		if err != nil {
			return err
		}
	}
}

var codec = wire.NewCodec()

// read reads a message. The message must arrive within messageTimeout of its length.
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

// answer answers a message with one message, which has no answers to requests that have to wait.
func (s *stream) answer(message *wire.Requests) error {
	if len(message.List) == 1 && message.List[0].Unreadable {
		return errUnreadable // the sequence numbers to answer are unknown
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

// decide adds the answer to a request to s.answers, unless the request has to wait.
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
	s.conclude(&s.answers, sequence, r, answer, took, err)
}

// conclude counts the answer to a request and adds it to a message.
func (s *stream) conclude(
	in *wire.Answers, sequence uint64, r *wire.Request, answer validator.Answer, took time.Duration, err error,
) {
	s.service.count(r, answer, took, err)
	if err != nil {
		told := s.server.StatusOf(s.ctx, err)
		in.Fail(sequence, &countersignv1.AuthorizeError{
			Code: int32(told.Code()), Reason: apierr.ReasonOf(told.Err()), Message: told.Message(),
			Details: told.Proto().GetDetails(),
		})
		return
	}
	in.Add(sequence, &answer)
}

// wait answers a request later, in a message of its own. The request must share no memory with a message. It
// returns false when too many requests wait.
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
			s.conclude(&late, sequence, r, answer, took, err)
			s.mu.Lock()
			defer s.mu.Unlock()
			// If the stream has failed, receive returns why.
			_ = s.grpc.SendMsg(&late)
		})
	})
	return true
}

// askLate asks again, and waits for the revision. It releases the slot before the answer is sent, so that a
// slow reader blocks nobody.
func (s *stream) askLate(r *wire.Request) (validator.Answer, time.Duration, error) {
	defer s.service.waiting.leave()
	return s.service.ask(s.ctx, r)
}
