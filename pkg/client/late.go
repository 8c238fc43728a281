package client

import (
	"context"
	"time"

	"google.golang.org/grpc/status"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// patience returns how long to wait for the stream's answer before another validator is asked too. 0 means
// that no other validator is asked.
func (s *stream) patience(ctx context.Context, asked time.Time) time.Duration {
	if s.calls.again == nil {
		return 0
	}
	until, has := ctx.Deadline()
	if !has {
		until = asked.Add(DefaultTimeout)
	}
	return max(min(time.Until(until)/share, maxPatience), 1)
}

// askOther asks another validator, in a call, a question that this stream has not answered. It returns the
// first answer from either of them. It returns done false when it asked nothing or the other validator could
// not decide. The stream may still answer then.
func (s *stream) askOther(
	ctx context.Context, asked time.Time, c *call,
) (response *countersignv1.AuthorizeResponse, done bool, err error) {
	s.calls.again.failed()
	if !s.calls.again.allows() {
		return nil, false, nil
	}
	ctx, cancel := bounded(ctx, asked)
	defer cancel()
	question := c.question // c may be reused before the call has ended
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		response, err = s.calls.once(ctx, question, s.route)
	}()
	select {
	case <-c.done:
		if decided(c.err) {
			cancel()
			<-ended
			return c.response, true, c.err
		}
		<-ended
		response, err = better(c.response, c.err, response, err)
		return response, true, err
	case <-ended:
	}
	if !conclusive(err) && ctx.Err() == nil {
		return nil, false, nil
	}
	if !s.abandon(c) {
		<-c.done // the stream's answer is on its way
		if decided(c.err) {
			return c.response, true, c.err
		}
	}
	if !decided(err) {
		err = status.FromContextError(ctx.Err()).Err()
	}
	return response, true, err
}
