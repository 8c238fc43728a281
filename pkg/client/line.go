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
	// life is the shortest time for which a stream is used, unless it fails. Up to half of it is added at
	// random. When grpcserver closes a connection, calls on it have one minute to end. Streams end sooner
	// than that, so none is cut.
	life = 30 * time.Second

	// firstPause is the pause after a stream failed, before the next stream. The pause doubles, up to
	// maxPause, each time a stream fails. It is firstPause again after a stream that answered a question. At
	// random, each pause is up to a fifth longer or shorter.
	firstPause = 100 * time.Millisecond
	maxPause   = 10 * time.Second

	// unservedPause is the pause after a validator said that it does not support streams. A later version of
	// this validator may support them.
	unservedPause = time.Minute
)

// line keeps one stream open while questions need it.
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

// keep opens one stream after the other, each when a question needs one, until ctx ends.
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

// use opens a stream and returns after the stream has ended. err is nil when the stream ended because its
// life was over. answered is true when the stream has answered a question.
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

// sleep waits for about the given time, at random up to a fifth longer or shorter. It returns early when ctx
// ends.
func sleep(ctx context.Context, about time.Duration) {
	timer := time.NewTimer(about*4/5 + rand.N(about*2/5))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
