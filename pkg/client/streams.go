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

// ask asks a question, if necessary more than once. This does no harm, because questions change nothing. ask
// derives a context only where it needs the deadline, because this costs a tenth of a question.
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

// turn waits for one of the InFlight slots, for a question that was asked at the time asked.
func (s *streams) turn(ctx context.Context, asked time.Time) error {
	if ctx.Err() == nil && s.turns.TryAcquire(1) {
		return nil
	}
	ctx, cancel := bounded(ctx, asked)
	defer cancel()
	return s.turns.Acquire(ctx, 1)
}

// maxQuestion is the size in bytes of the largest question that is sent over a stream. Questions with a token
// that is too long fit too, because Authorize shortens the token.
const maxQuestion = 8 << 10

// streamable reports whether a question may be sent over a stream. A question that cannot be encoded or is
// too large would end the stream for all questions. A question with a MinRevision may wait in the validator,
// and only a call carries the deadline to the validator.
func streamable(q *countersignv1.AuthorizeRequest) bool {
	return q.GetMinRevision() == "" && sizeOf(q) <= maxQuestion && utf8.ValidString(q.GetAppId())
}

// sizeOf returns an upper bound for the encoded size of a question, in bytes.
func sizeOf(q *countersignv1.AuthorizeRequest) int {
	const rest = 40 // tags, lengths, and two numbers of up to ten bytes
	return rest + len(q.GetAppId()) + len(q.GetToken())
}

// pick returns the open stream with the fewest unanswered questions. So it avoids a stalled validator, which
// has many. Over a Connection it skips streams whose validator has been silent for spread.Hush. It makes
// lines without a stream open one. It returns nil when no stream can be used.
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
