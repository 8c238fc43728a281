package client

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/pkg/apierr"
)

// Undecided reports whether an error of Authorize is an outage (B20): no validator can decide now, and the
// request is not the cause. ctx is the context of the request, not the context that Authorize got. Only in an
// outage may a program apply a rule of its own, such as accepting the request. These errors are outages:
//
//   - UNAVAILABLE: a validator cannot decide, or no validator can be reached.
//   - DEADLINE_EXCEEDED: no validator has answered in time. Give a question less time than its request has,
//     as Middleware does. Otherwise a request's own deadline looks like an outage.
//   - RESOURCE_EXHAUSTED with the reason OVERLOADED: the validator has too many calls in flight.
//
// All other errors are not outages, because a sender could cause them on purpose to get its request accepted:
//
//   - ctx is done: the sender has reset the request or closed its connection, or its deadline has passed.
//   - INVALID_ARGUMENT: the app id or the scope is invalid.
//   - RESOURCE_EXHAUSTED with another reason: a message is too large.
//   - UNAUTHENTICATED, PERMISSION_DENIED and UNIMPLEMENTED: the setup is wrong.
//   - INTERNAL, UNKNOWN and others: a bug, which the request may have triggered.
//   - CANCELED while ctx is not done: a proxy has ended the call, or the connection was closed.
func Undecided(ctx context.Context, err error) bool {
	if ctx.Err() != nil {
		return false
	}
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded:
		return true
	case codes.ResourceExhausted:
		return apierr.ReasonOf(err) == apierr.Overloaded
	}
	return false
}

// over reports whether a request ended before its question was answered with err. ctx is the context of the
// request. until is the deadline of the question.
func over(ctx context.Context, err error, until time.Time) bool {
	if ctx.Err() != nil {
		return true
	}
	// A validator may return DEADLINE_EXCEEDED just before our own context ends.
	own, has := ctx.Deadline()
	return has && !own.After(until) && status.Code(err) == codes.DeadlineExceeded
}
