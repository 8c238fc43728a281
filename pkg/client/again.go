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
	// maxPatience is how long a validator may take before another one is asked too. Most answers take less
	// than a millisecond.
	maxPatience = 250 * time.Millisecond
	// share bounds the patience to a quarter of the question's time. The second question has the rest.
	share = 4
	// patientShare replaces share for a question with a MinRevision, which may wait for the store.
	patientShare = 2
)

// calls asks questions in unary calls.
type calls struct {
	validator countersignv1.ValidatorServiceClient
	// again bounds second questions. It is nil, and none are asked, when a second question could reach the
	// same validator as the first.
	again *budget
}

// ask asks a question. ctx must have a deadline. A second question does no harm, since questions change
// nothing.
func (c *calls) ask(
	ctx context.Context, question *countersignv1.AuthorizeRequest,
) (*countersignv1.AuthorizeResponse, error) {
	if c.again == nil {
		return c.validator.Authorize(ctx, question)
	}
	patient := question.GetMinRevision() != ""
	route := spread.NewRoute(patient)
	first, cancel := context.WithCancel(route.With(ctx))
	defer cancel()
	s := &second{
		calls: c, ctx: ctx, question: question, route: route, patience: patience(ctx, patient), won: cancel,
		done: make(chan struct{}),
	}
	s.start()
	response, err := c.validator.Authorize(first, question)
	s.finish(decided(err))
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

// askOther asks a question again that the validator of a route could not decide, of another validator.
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

// once asks a question once, of another validator than the one of a route.
func (c *calls) once(
	ctx context.Context, question *countersignv1.AuthorizeRequest, route *spread.Route,
) (*countersignv1.AuthorizeResponse, error) {
	response, err := c.validator.Authorize(route.Other(question.GetMinRevision() != "").With(ctx), question)
	switch {
	case decided(err):
		c.again.answered()
	case status.Code(err) != codes.Canceled: // canceled means that the first question was answered
		c.charge(err)
	}
	return response, err
}

// charge counts a question that a validator has not decided, unless the error is about the question alone.
// Otherwise questions about one undecidable app would use up the second questions of all apps.
func (c *calls) charge(err error) {
	if spread.VerdictOf(err) != spread.Lacking {
		c.again.failed()
	}
}

// decided tells whether err is nil, or an error about the question, which every validator would return.
func decided(err error) bool { return spread.VerdictOf(err) == spread.Decided }

// conclusive tells whether an outcome makes the other question's outcome needless. Other errors do not: the
// other question may still be denied, and a denial must not pass for an outage.
func conclusive(err error) bool { return err == nil || status.Code(err) == codes.InvalidArgument }

// undecided tells whether another validator may decide a question that failed with err.
func undecided(ctx context.Context, err error) bool {
	verdict := spread.VerdictOf(err)
	return (verdict == spread.Refused || verdict == spread.Lacking) && ctx.Err() == nil
}

// better returns the second outcome if it is decided, and otherwise the one with a reason.
func better(
	first *countersignv1.AuthorizeResponse, firstErr error, second *countersignv1.AuthorizeResponse, secondErr error,
) (*countersignv1.AuthorizeResponse, error) {
	if decided(secondErr) || apierr.ReasonOf(firstErr) == "" && apierr.ReasonOf(secondErr) != "" {
		return second, secondErr
	}
	return first, firstErr
}

// patience returns how long to wait before another validator is asked too.
func patience(ctx context.Context, patient bool) time.Duration {
	until, _ := ctx.Deadline()
	left := time.Until(until)
	if patient {
		return left / patientShare
	}
	return min(left/share, maxPatience)
}

// second asks a question of another validator while the first validator has not answered.
type second struct {
	*calls
	ctx      context.Context
	question *countersignv1.AuthorizeRequest
	route    *spread.Route // the route of the first question
	patience time.Duration
	won      func() // cancels the first question

	mu     sync.Mutex
	timer  *time.Timer
	over   bool // the first question has ended
	begun  bool
	cancel context.CancelFunc

	done     chan struct{} // closed when a second question has ended
	response *countersignv1.AuthorizeResponse
	err      error
}

// start asks the second question after the patience.
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
		// The first question waits until a validator serves. A second one would wait too.
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

// finish is called when the first question has ended. It returns when the second one has ended or cannot
// begin.
func (s *second) finish(decided bool) {
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
