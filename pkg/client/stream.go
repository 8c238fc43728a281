package client

import (
	"context"
	"errors"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/pkg/client/internal/spread"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

const (
	// maxTogether is how many questions one message may carry. More than about fifty in a message hardly make
	// a question cheaper, and the first question waits for the last one.
	maxTogether = 64
	// maxMessage is about how many bytes a message may have. A validator accepts up to 64 KiB.
	maxMessage = 32 << 10

	// silence is how long a validator may give no answer while questions wait for one. An answer usually
	// takes microseconds.
	silence = time.Second
)

// errUnanswered means that the stream gave no answer, so the question must be asked in a call.
var errUnanswered = status.Error(codes.Unavailable, "the stream ended without an answer")

// errSilent replaces errUnanswered when the stream was given up because its validator was silent.
var errSilent = status.Error(codes.Unavailable, "the validator has fallen silent")

// errRefused means that the stream was given up because its validator refused several questions in a row.
var errRefused = errors.New("the validator decides nothing now")

// refusals is how many refusals in a row make the client give up a stream. A single refusal may concern only
// one scope.
const refusals = 2

// stream is one stream of questions and answers. ask is safe for concurrent use. run is called once.
type stream struct {
	calls *calls        // asks second questions, if allowed
	route *spread.Route // the stream's route
	left  func()        // called when the stream takes no more questions

	grpc     grpc.BidiStreamingClient[countersignv1.AuthorizeStreamRequest, countersignv1.AuthorizeStreamResponse]
	cancel   context.CancelFunc
	wake     chan struct{} // has an element when run must send
	retired  chan struct{} // closed by retire
	load     atomic.Int64  // unanswered questions, including questions of callers that gave up
	began    time.Time
	progress atomic.Int64 // nanoseconds from began to the latest answer, or to the first question that waits for one
	retiring sync.Once
	pool     pool

	mu       sync.Mutex
	closed   bool // the stream takes no more questions
	silent   bool // the stream was given up because its validator was silent
	awake    bool // run was woken, and has not emptied the queue since then
	queue    queue
	sent     map[uint64]*call // unanswered calls by sequence number; nil when the caller gave up
	sequence uint64           // the next number
	answered bool             // at least one question was answered; read after run

	refused int // refusals in a row; only receive uses it, and run after receive has returned
}

func newStream(
	opened grpc.BidiStreamingClient[countersignv1.AuthorizeStreamRequest, countersignv1.AuthorizeStreamResponse],
	cancel context.CancelFunc,
	route *spread.Route,
	calls *calls,
) *stream {
	return &stream{
		calls: calls, route: route, grpc: opened, cancel: cancel, wake: make(chan struct{}, 1), retired: make(chan struct{}),
		sent: make(map[uint64]*call), began: time.Now(),
	}
}

// noteProgress is called when an answer has arrived, and when a first question begins to wait for an answer.
func (s *stream) noteProgress() { s.progress.Store(int64(time.Since(s.began))) }

// quiet returns the time since the latest progress (see noteProgress).
func (s *stream) quiet() time.Duration { return time.Since(s.began) - time.Duration(s.progress.Load()) }

// hushed reports whether questions wait and no answer has arrived for spread.Hush.
func (s *stream) hushed() bool { return s.load.Load() > 0 && s.quiet() >= spread.Hush }

// ask asks a question over the stream and returns the answer. asked is the time at which the question was
// asked. ask returns errUnanswered or errSilent when the stream ends without an answer.
func (s *stream) ask(
	ctx context.Context, asked time.Time, question *countersignv1.AuthorizeRequest,
) (*countersignv1.AuthorizeResponse, error) {
	c := s.pool.call(question)
	defer s.pool.free(c)
	if !s.enqueue(c) {
		return nil, errUnanswered
	}
	err := c.wait(ctx, asked, s.patience(ctx, asked))
	if errors.Is(err, errLate) {
		if response, done, err := s.askOther(ctx, asked, c); done {
			return response, err
		}
		err = c.wait(ctx, asked, 0)
	}
	if err != nil {
		if s.abandon(c) {
			return nil, status.FromContextError(err).Err()
		}
		<-c.done // its answer is on its way
	}
	return c.response, c.err
}

func (s *stream) enqueue(c *call) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	if s.load.Load() == 0 {
		s.noteProgress()
	}
	s.queue.push(c)
	s.load.Add(1)
	if !s.awake {
		s.awake = true
		s.wake <- struct{}{}
	}
	return true
}

// abandon forgets a call whose caller gives up. If the validator has been silent for too long, abandon also
// gives up the stream. It returns false when the call's answer is already on its way to the caller.
func (s *stream) abandon(c *call) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch c.state {
	case queued:
		s.queue.remove(c)
		s.load.Add(-1)
	case sent:
		s.sent[c.sequence] = nil
	default:
		return false
	}
	most := silence
	if s.calls.again != nil {
		most = spread.Hush // other validators can be asked
	}
	if len(s.sent) > 0 && s.quiet() >= most {
		s.silent = true
		s.route.Trouble()
		s.cancel()
	}
	return true
}

// run sends questions until retire is called. Then it waits until the validator has answered the questions
// already asked, and returns nil. It returns errRefused if the stream was retired because of refusals. If the
// stream ends before, run returns the cause. Nothing uses the stream after run has returned.
func (s *stream) run() error {
	var why error
	received := make(chan struct{})
	go func() {
		defer close(received)
		why = s.receive()
	}()
	for {
		select {
		case <-received:
			return why
		case <-s.retired:
			last := time.AfterFunc(silence, s.cancel)
			defer last.Stop()
			s.flush()
			_ = s.grpc.CloseSend()
			<-received
			if s.refused >= refusals {
				return errRefused
			}
			return nil
		case <-s.wake:
			// First let other goroutines run that are ready to ask, so that their questions share the
			// message. This halves the cost of a question. Gosched returns at once when no goroutine is
			// ready.
			runtime.Gosched()
			s.flush()
		}
	}
}

// retire stops new questions on the stream, and makes run end.
func (s *stream) retire() {
	s.retiring.Do(func() {
		s.left()
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		close(s.retired)
	})
}

// flush sends the queued questions. It blocks while the validator does not keep up. It reports no error: when
// the stream has failed, receive returns the cause.
func (s *stream) flush() {
	for message := s.take(); message != nil; message = s.take() {
		if s.grpc.Send(message) != nil {
			return
		}
	}
}

// take moves questions from the queue into the next message. It returns nil when the queue is empty.
func (s *stream) take() *countersignv1.AuthorizeStreamRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.queue.length == 0 {
		s.awake = false
		return nil
	}
	if len(s.sent) == 0 {
		s.noteProgress()
	}
	message := &countersignv1.AuthorizeStreamRequest{Sequence: s.sequence}
	size := 0
	for n := 0; n < maxTogether && s.queue.length > 0; n++ {
		c := s.queue.first
		if size += sizeOf(c.question); n > 0 && size > maxMessage {
			break
		}
		s.queue.remove(c)
		c.state, c.sequence = sent, s.sequence
		s.sent[s.sequence] = c
		s.sequence++
		if n == 0 {
			message.Request = c.question
			message.More = make([]*countersignv1.AuthorizeRequest, 0, min(s.queue.length, maxTogether-1))
		} else {
			message.More = append(message.More, c.question)
		}
	}
	return message
}

// receive passes answers to callers until the stream ends, and returns the cause of the end. It never waits
// for a caller. At the end it concludes the unanswered calls with an error.
func (s *stream) receive() error {
	defer s.abort()
	var answers []answer
	for {
		message, err := s.grpc.Recv()
		if errors.Is(err, io.EOF) {
			return errUnanswered
		}
		if err != nil {
			return err
		}
		answers = s.match(message, answers[:0])
		for _, a := range answers {
			a.call.conclude(a.response, a.err)
		}
		if s.calls.again != nil && s.refusing(answers) {
			s.route.Trouble()
			s.retire()
		}
	}
}
