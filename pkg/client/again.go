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
	// maxPatience is the longest time for which only one validator is asked. After it, the client asks a
	// second validator too. Most answers take less than a millisecond.
	maxPatience = 250 * time.Millisecond
	// The patience is also at most a quarter (1/share) of the question's time. The second question has the
	// rest.
	share = 4
	// For a question with a MinRevision, the patience is half (1/patientShare) of the question's time,
	// without maxPatience. The validator may have to wait for the change.
	patientShare = 2
)

// calls asks questions in unary calls.
type calls struct {
	validator countersignv1.ValidatorServiceClient
	// again bounds second questions. It is nil over a connection that is not from Dial: a second question
	// could reach the same validator as the first, so the client asks none.
	again *budget
}

// ask asks a question, and if necessary asks a second validator. This does no harm, because questions change
// nothing. ctx must have a deadline.
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

// askOther asks another validator a question that the validator of route did not decide. why is the first
// validator's error. askOther returns why when the budget allows no second question.
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

// once asks a question once, of a validator other than the one of route.
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

// charge counts a question that a validator did not decide, unless the error concerns only this question.
// Without this exception, questions about one undecidable app would use up the second questions of all apps.
func (c *calls) charge(err error) {
	if spread.VerdictOf(err) != spread.Lacking {
		c.again.failed()
	}
}

// decided reports whether err is nil, or an error that every validator would return for this question.
func decided(err error) bool { return spread.VerdictOf(err) == spread.Decided }

// conclusive reports whether the outcome of one question decides, so that the other question can be
// cancelled. After other errors the client waits for the other question: its answer may be a denial, and a
// denial must not look like an outage.
func conclusive(err error) bool { return err == nil || status.Code(err) == codes.InvalidArgument }

// undecided reports whether another validator may be able to decide a question that failed with err.
func undecided(ctx context.Context, err error) bool {
	verdict := spread.VerdictOf(err)
	return (verdict == spread.Refused || verdict == spread.Lacking) && ctx.Err() == nil
}

// better returns the second outcome if it is decided, or if only its error has a reason. Otherwise it returns
// the first outcome.
func better(
	first *countersignv1.AuthorizeResponse, firstErr error, second *countersignv1.AuthorizeResponse, secondErr error,
) (*countersignv1.AuthorizeResponse, error) {
	if decided(secondErr) || apierr.ReasonOf(firstErr) == "" && apierr.ReasonOf(secondErr) != "" {
		return second, secondErr
	}
	return first, firstErr
}

// patience returns how long to wait for the first validator before another validator is asked too. patient is
// true for a question with a MinRevision.
func patience(ctx context.Context, patient bool) time.Duration {
	until, _ := ctx.Deadline()
	left := time.Until(until)
	if patient {
		return left / patientShare
	}
	return min(left/share, maxPatience)
}

// second asks another validator the same question when the first validator has not answered within the
// patience.
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

// start starts the timer of the patience.
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

// finish is called when the first question has ended. decided says whether it was decided; then finish
// cancels the second question. finish returns when the second question has ended or can no longer begin.
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
