package client

import (
	"context"
	"errors"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc/status"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// streams asks questions over streams, and in calls when no stream can take them.
type streams struct {
	calls   *calls
	turns   *semaphore.Weighted
	lines   []*line
	cancel  context.CancelFunc
	keepers sync.WaitGroup
}

func newStreams(
	calls *calls, bulk countersignv1.BulkValidatorServiceClient, options StreamOptions,
) *streams {
	ctx, cancel := context.WithCancel(context.Background())
	s := &streams{calls: calls, turns: semaphore.NewWeighted(int64(options.InFlight)), cancel: cancel}
	for range options.Streams {
		l := newLine(bulk, calls)
		s.lines = append(s.lines, l)
		s.keepers.Go(func() { l.keep(ctx) })
	}
	return s
}

func (s *streams) close() {
	s.cancel()
	s.keepers.Wait()
}

// ask asks a question. A second question does no harm, since questions change nothing. It derives a context
// only where one is needed as a bound, because a derived context costs a tenth of a question.
func (s *streams) ask(
	ctx context.Context, question *countersignv1.AuthorizeRequest,
) (*countersignv1.AuthorizeResponse, error) {
	asked := time.Now()
	if streamable(question) {
		if err := s.turn(ctx, asked); err != nil {
			return nil, status.FromContextError(err).Err()
		}
		defer s.turns.Release(1)
		if stream := s.pick(); stream != nil {
			response, err := stream.ask(ctx, asked, question)
			switch {
			case errors.Is(err, errUnanswered):
			case errors.Is(err, errSilent):
				if s.calls.again.failed(); !s.calls.again.allows() {
					return nil, err
				}
			case s.calls.again == nil:
				return response, err
			case decided(err):
				s.calls.again.answered()
				return response, err
			case !undecided(ctx, err):
				return response, err
			default:
				ctx, cancel := bounded(ctx, asked)
				defer cancel()
				return s.calls.askOther(ctx, question, stream.route, err)
			}
		}
	}
	ctx, cancel := bounded(ctx, asked)
	defer cancel()
	return s.calls.ask(ctx, question)
}

// turn waits for a slot for a question that was asked at a time.
func (s *streams) turn(ctx context.Context, asked time.Time) error {
	if ctx.Err() == nil && s.turns.TryAcquire(1) {
		return nil
	}
	ctx, cancel := bounded(ctx, asked)
	defer cancel()
	return s.turns.Acquire(ctx, 1)
}

// maxQuestion is the size in bytes of the largest question that is sent over a stream. It has room for a
// token that is too long.
const maxQuestion = 8 << 10

// streamable tells whether a question may share a stream. A question that cannot be encoded or is too large
// would end the stream for all. A question with a MinRevision may wait, and only a call tells the validator
// its deadline.
func streamable(q *countersignv1.AuthorizeRequest) bool {
	return q.GetMinRevision() == "" && sizeOf(q) <= maxQuestion && utf8.ValidString(q.GetAppId())
}

// sizeOf returns an upper bound of a question's size on the wire, in bytes.
func sizeOf(q *countersignv1.AuthorizeRequest) int {
	const rest = 40 // tags, lengths, and two numbers of up to ten bytes
	return rest + len(q.GetAppId()) + len(q.GetToken())
}

// pick returns the open stream with the fewest unanswered questions, and so avoids a stalled validator.
// Over a Connection it skips streams that are silent. It returns nil when no stream is left, and requests
// the missing ones.
func (s *streams) pick() *stream {
	var best *stream
	var least int64
	for _, l := range s.lines {
		stream := l.open.Load()
		if stream == nil {
			l.want()
			continue
		}
		if s.calls.again != nil && stream.hushed() {
			continue
		}
		if load := stream.load.Load(); best == nil || load < least {
			best, least = stream, load
		}
	}
	return best
}
