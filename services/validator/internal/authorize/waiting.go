package authorize

import (
	"context"
	"time"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/validator"
	"github.com/countersign/countersign/services/validator/internal/wire"
)

// MaxWaiting is how many requests, of calls and streams together, may wait for their min_revision, each on
// a goroutine. They wait for milliseconds, or for a change that does not come: anyone may ask for one, so
// it must not take the slots of calls that wait for nothing.
const MaxWaiting = 1024

// errTooManyWaiting is no decision (B25): another validator may have the revision already.
var errTooManyWaiting = apierr.Unavailable(apierr.TooManyWaiting, "as many requests wait for their min_revision as may; ask another validator, or later")

// waiting holds one element for each request that waits. It is safe for concurrent use.
type waiting chan struct{}

func newWaiting() waiting { return make(chan struct{}, MaxWaiting) }

// enter takes a slot; false when none is free. The caller gives it back with leave.
func (w waiting) enter() bool {
	select {
	case w <- struct{}{}:
		return true
	default:
		return false
	}
}

func (w waiting) leave() { <-w }

// noWaiting is a context that is done: with it, a request for a revision that is not there yet is turned
// down at once.
var noWaiting = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// askAndWait does what ask does, and takes a slot while the request waits for its min_revision.
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
