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
	// maxTogether is how many questions one message carries at most. Beyond some fifty a question hardly
	// gets cheaper, and the first of them waits for the last.
	maxTogether = 64
	// maxMessage is about how many bytes they may be. A validator takes 64 KiB.
	maxMessage = 32 << 10

	// silence is how long a validator may owe answers and give none. It takes microseconds for each.
	silence = time.Second
)

// errUnanswered says that a question must be asked in another way.
var errUnanswered = status.Error(codes.Unavailable, "the stream ended without an answer")

// errSilent says the same of a question on a stream that was given up because the validator said nothing.
var errSilent = status.Error(codes.Unavailable, "the validator has fallen silent")

// errRefused says that a stream was left because its validator decides nothing now.
var errRefused = errors.New("the validator decides nothing now")

// refusals is how many refusals in a row are a reason to leave a stream. A single one may be about one scope.
const refusals = 2

// stream is one stream of questions and answers. ask may be called by many goroutines; run is called once.
type stream struct {
	calls *calls        // for what this stream does not answer soon, when it allows second questions
	route *spread.Route // of the stream
	left  func()        // called when no more is to be asked

	grpc     grpc.BidiStreamingClient[countersignv1.AuthorizeStreamRequest, countersignv1.AuthorizeStreamResponse]
	cancel   context.CancelFunc
	wake     chan struct{} // has an element when run has something to send
	retired  chan struct{} // closed by retire
	load     atomic.Int64  // questions without an answer, also of callers that have gone
	began    time.Time
	progress atomic.Int64 // when an answer came, or one began to be owed: nanoseconds since it began
	retiring sync.Once
	pool     pool

	mu       sync.Mutex
	closed   bool // no question is taken any more
	silent   bool // it was given up because nothing came
	awake    bool // run was told to send, and has not found the queue empty since
	queue    queue
	sent     map[uint64]*call // by sequence; nil when the caller has gone
	sequence uint64           // the next
	answered bool             // something was; to be read after run

	refused int // refusals in a row, as receive counts them; to be read after it
}

func newStream(
	opened grpc.BidiStreamingClient[countersignv1.AuthorizeStreamRequest, countersignv1.AuthorizeStreamResponse], cancel context.CancelFunc,
	route *spread.Route, calls *calls,
) *stream {
	return &stream{
		calls: calls, route: route, grpc: opened, cancel: cancel, wake: make(chan struct{}, 1), retired: make(chan struct{}),
		sent: make(map[uint64]*call), began: time.Now(),
	}
}

// noteProgress is called when an answer has come, or one begins to be owed.
func (s *stream) noteProgress() { s.progress.Store(int64(time.Since(s.began))) }

// quiet returns how long no answer has come.
func (s *stream) quiet() time.Duration { return time.Since(s.began) - time.Duration(s.progress.Load()) }

// hushed tells whether the validator owes answers and gives none.
func (s *stream) hushed() bool { return s.load.Load() > 0 && s.quiet() >= spread.Hush }

// ask returns the answer to a question that was asked at a time, or errUnanswered or errSilent when the
// stream does not give one.
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
		<-c.done // it is being concluded
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

// abandon forgets a call whose caller goes, and gives up the stream when it has fallen silent. It returns
// false when the call is being concluded.
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
		most = spread.Hush // there are others
	}
	if len(s.sent) > 0 && s.quiet() >= most {
		s.silent = true
		s.route.Trouble()
		s.cancel()
	}
	return true
}

// run sends what is asked until retire is called, then lets the validator answer what it owes and returns
// nil; when the stream ends before, it returns why. Then nothing uses the stream any more.
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
			// Goroutines that can run now and are about to ask go first, so that one message carries what
			// they ask: it halves the cost of a question. With none there is nobody to wait for.
			runtime.Gosched()
			s.flush()
		}
	}
}

// retire makes run end.
func (s *stream) retire() {
	s.retiring.Do(func() {
		s.left()
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		close(s.retired)
	})
}

// flush sends what is queued. It blocks while the validator does not keep up. A stream that does not send
// any more is one that receive finds ended.
func (s *stream) flush() {
	for message := s.take(); message != nil; message = s.take() {
		if s.grpc.Send(message) != nil {
			return
		}
	}
}

// take returns the next message, or nil when nothing is queued.
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

// receive gives answers to callers until the stream ends, and returns why. It waits for none of them.
// Whatever is not answered then never is.
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
