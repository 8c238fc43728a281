package authorize

import (
	"context"
	"time"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/validator"
	"github.com/countersign/countersign/services/validator/internal/wire"
)

// MaxWaiting is how many requests may wait for their min_revision at a time, in calls and streams together.
// Each waits on a goroutine, for milliseconds or for a change that never comes. The bound is needed because
// anyone may ask for such a change.
const MaxWaiting = 1024

// errTooManyWaiting is not a denial (B25): another validator may already have the revision.
var errTooManyWaiting = apierr.Unavailable(
	apierr.TooManyWaiting, "as many requests wait for their min_revision as may; ask another validator, or later",
)

// waiting is a limiter of requests that wait. It holds one element for each. It is safe for concurrent use.
type waiting chan struct{}

func newWaiting() waiting { return make(chan struct{}, MaxWaiting) }

// enter takes a slot, which the caller releases with leave. It returns false when no slot is free.
func (w waiting) enter() bool {
	select {
	case w <- struct{}{}:
		return true
	default:
		return false
	}
}

func (w waiting) leave() { <-w }

// noWaiting is a context that is done. With it, a request fails at once when its revision has not arrived.
var noWaiting = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// askAndWait is ask for requests that may have to wait for their min_revision. They hold a slot while they
// wait.
func (s *Service) askAndWait(ctx context.Context, r *wire.Request) (validator.Answer, time.Duration, error) {
	if r.MinRevision == "" {
		return s.ask(ctx, r)
	}
	answer, took, err := s.ask(noWaiting, r)
	if apierr.ReasonOf(err) != apierr.RevisionNotReached {
		return answer, took, err
	}
	if !s.waiting.enter() {
		return validator.Answer{}, took, errTooManyWaiting
	}
	defer s.waiting.leave()
	answer, waited, err := s.ask(ctx, r)
	return answer, took + waited, err
}
