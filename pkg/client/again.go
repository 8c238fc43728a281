package client

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/client/internal/spread"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

const (
	// maxPatience is how long a validator may take before another one is asked, too. It answers within a
	// millisecond.
	maxPatience = 250 * time.Millisecond
	// share is the part of the time of a question after which that happens at the latest: three quarters
	// are left then.
	share = 4
	// patientShare is the same for a question with a MinRevision, which may wait for the store.
	patientShare = 2
)

// calls asks in calls.
type calls struct {
	validator countersignv1.ValidatorServiceClient
	// again bounds second questions; nil: there are none, since all may go to the same validator.
	again *budget
}

// ask asks a question; its context has a deadline. Asking twice does no harm, since it changes nothing.
func (c *calls) ask(ctx context.Context, question *countersignv1.AuthorizeRequest) (*countersignv1.AuthorizeResponse, error) {
	if c.again == nil {
		return c.validator.Authorize(ctx, question)
	}
	patient := question.GetMinRevision() != ""
	route := spread.NewRoute(patient)
	first, cancel := context.WithCancel(route.With(ctx))
	defer cancel()
	s := &second{calls: c, ctx: ctx, question: question, route: route, patience: patience(ctx, patient), won: cancel, done: make(chan struct{})}
	s.start()
	response, err := c.validator.Authorize(first, question)
	s.settle(decided(err))
	switch {
	case decided(err):
		c.again.answered()
		return response, err
	case s.begun:
		return better(response, err, s.response, s.err)
	case !route.Taken() || !undecided(ctx, err):
		return response, err
	}
	return c.askOther(ctx, question, route, err)
}

// askOther asks a question, which a validator could not decide, of another one than a route has led to.
func (c *calls) askOther(
	ctx context.Context, question *countersignv1.AuthorizeRequest, route *spread.Route, why error,
) (*countersignv1.AuthorizeResponse, error) {
	c.charge(why)
	if !c.again.allows() {
		return nil, why
	}
	response, err := c.once(ctx, question, route)
	return better(nil, why, response, err)
}

// once asks a question, once, of another validator than a route has led to.
func (c *calls) once(ctx context.Context, question *countersignv1.AuthorizeRequest, route *spread.Route) (*countersignv1.AuthorizeResponse, error) {
	response, err := c.validator.Authorize(route.Other(question.GetMinRevision() != "").With(ctx), question)
	switch {
	case decided(err):
		c.again.answered()
	case status.Code(err) != codes.Canceled: // which says that nobody wants to know any more
		c.charge(err)
	}
	return response, err
}

// charge counts a question that a validator did not decide. An error about the question alone costs
// nothing: otherwise questions about an app that no validator can decide about would leave no second
// question for other apps.
func (c *calls) charge(err error) {
	if spread.VerdictOf(err) != spread.Lacking {
		c.again.failed()
	}
}

// decided tells whether an error is none, or one that another validator would have, too: it is about the
// question.
func decided(err error) bool { return spread.VerdictOf(err) == spread.Decided }

// conclusive tells whether an outcome makes another one needless that has not come yet. An error other than
// of the question itself does not: what is still asked may be denied, and must not pass for an outage.
func conclusive(err error) bool { return err == nil || status.Code(err) == codes.InvalidArgument }

// undecided tells whether another validator may decide what one could not.
func undecided(ctx context.Context, err error) bool {
	verdict := spread.VerdictOf(err)
	return (verdict == spread.Refused || verdict == spread.Lacking) && ctx.Err() == nil
}

// better returns the second outcome when that is decided, and else the one that says more.
func better(
	first *countersignv1.AuthorizeResponse, firstErr error, second *countersignv1.AuthorizeResponse, secondErr error,
) (*countersignv1.AuthorizeResponse, error) {
	if decided(secondErr) || apierr.ReasonOf(firstErr) == "" && apierr.ReasonOf(secondErr) != "" {
		return second, secondErr
	}
	return first, firstErr
}

// patience returns how long to wait for a first answer.
func patience(ctx context.Context, patient bool) time.Duration {
	until, _ := ctx.Deadline()
	left := time.Until(until)
	if patient {
		return left / patientShare
	}
	return min(left/share, maxPatience)
}

// second is the question that is asked of another validator while the first one has not answered.
type second struct {
	*calls
	ctx      context.Context
	question *countersignv1.AuthorizeRequest
	route    *spread.Route // of the first
	patience time.Duration
	won      func() // ends the first

	mu     sync.Mutex
	timer  *time.Timer
	over   bool // the first has ended
	begun  bool
	cancel context.CancelFunc

	done     chan struct{} // closed at the end of one that has begun
	response *countersignv1.AuthorizeResponse
	err      error
}

// start asks when the patience is over.
func (s *second) start() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timer = time.AfterFunc(s.patience, s.due)
}

func (s *second) due() {
	s.mu.Lock()
	switch {
	case s.over:
		s.mu.Unlock()
		return
	case !s.route.Taken():
		// The first one waits for a validator that serves, as a second one would.
		s.timer.Reset(s.patience)
		s.mu.Unlock()
		return
	}
	s.again.failed()
	if !s.again.allows() {
		s.mu.Unlock()
		return
	}
	ctx, cancel := context.WithCancel(s.ctx)
	s.begun, s.cancel = true, cancel
	s.mu.Unlock()
	defer close(s.done)
	defer cancel()
	s.response, s.err = s.once(ctx, s.question, s.route)
	if conclusive(s.err) {
		s.won()
	}
}

// settle is called when the first has ended. It returns when the second has ended, too, or will never begin.
func (s *second) settle(decided bool) {
	s.mu.Lock()
	s.over = true
	s.timer.Stop()
	s.mu.Unlock()
	if !s.begun {
		return
	}
	if decided {
		s.cancel()
	}
	<-s.done
}
