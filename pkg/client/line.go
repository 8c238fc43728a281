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
	// life is how long a stream is used, and up to half as long again. It is less than the minute that
	// grpcserver gives to what is under way when it closes an old connection, so that no stream is cut by
	// that.
	life = 30 * time.Second

	// firstPause is how long no stream is opened after one was lost; it doubles each time a stream ends
	// before it has answered anything, up to maxPause, and is made up to a fifth longer or shorter.
	firstPause = 100 * time.Millisecond
	maxPause   = 10 * time.Second

	// unservedPause is the same after a validator that serves no streams. It may be replaced by one that
	// does.
	unservedPause = time.Minute
)

// line is where one stream follows the other.
type line struct {
	bulk   countersignv1.BulkValidatorServiceClient
	calls  *calls
	open   atomic.Pointer[stream] // nil while there is none
	wanted chan struct{}          // has an element when there is none but something to ask
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

// use opens a stream and returns when that has ended: with nil when its time was over, and otherwise why.
// It tells whether anything was answered.
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

// sleep returns after about a time, or when the context ends.
func sleep(ctx context.Context, about time.Duration) {
	timer := time.NewTimer(about*4/5 + rand.N(about*2/5))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
