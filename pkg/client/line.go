package client

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/pkg/client/internal/spread"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

const (
	// life is how long a stream is used at least; up to half of it is added at random. grpcserver gives
	// calls on a connection that it closes one minute, so with a shorter life no stream is cut.
	life = 30 * time.Second

	// firstPause is the pause after a failed stream. It doubles, up to maxPause, each time a stream ends
	// before it has answered anything. Each pause is up to a fifth longer or shorter.
	firstPause = 100 * time.Millisecond
	maxPause   = 10 * time.Second

	// unservedPause is the pause after a validator that serves no streams. A later version of it may serve
	// them.
	unservedPause = time.Minute
)

// line keeps one stream open while it is needed.
type line struct {
	bulk   countersignv1.BulkValidatorServiceClient
	calls  *calls
	open   atomic.Pointer[stream] // nil while no stream is open
	wanted chan struct{}          // has an element when a question needs a stream
}

func newLine(bulk countersignv1.BulkValidatorServiceClient, calls *calls) *line {
	return &line{bulk: bulk, calls: calls, wanted: make(chan struct{}, 1)}
}

func (l *line) want() {
	select {
	case l.wanted <- struct{}{}:
	default:
	}
}

// keep opens streams while they are wanted, until the context ends.
func (l *line) keep(ctx context.Context) {
	for pause := firstPause; ; {
		select {
		case <-ctx.Done():
			return
		case <-l.wanted:
		}
		answered, err := l.use(ctx)
		if answered {
			pause = firstPause
		}
		switch {
		case err == nil:
			continue
		case status.Code(err) == codes.Unimplemented:
			sleep(ctx, unservedPause)
		default:
			sleep(ctx, pause)
			pause = min(2*pause, maxPause)
		}
	}
}

// use opens a stream and returns after the stream has ended. err is nil when its life was over. answered
// tells whether the stream has answered a question.
func (l *line) use(ctx context.Context) (answered bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	route := spread.NewRoute(false)
	opened, err := l.bulk.AuthorizeStream(route.With(ctx))
	if err != nil {
		return false, err
	}
	s := newStream(opened, cancel, route, l.calls)
	s.left = func() { l.open.CompareAndSwap(s, nil) }
	l.open.Store(s)
	over := time.AfterFunc(life+rand.N(life/2), s.retire)
	defer over.Stop()
	err = s.run()
	l.open.CompareAndSwap(s, nil)
	return s.answered, err
}

// sleep sleeps for a time, up to a fifth longer or shorter, or until ctx ends.
func sleep(ctx context.Context, about time.Duration) {
	timer := time.NewTimer(about*4/5 + rand.N(about*2/5))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
