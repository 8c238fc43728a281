package client

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/pkg/apierr"
)

// Undecided tells whether an error of Authorize is an outage (B20): nobody can decide about the request
// now, through no fault of the request. ctx is the context of the request that the question was about. Only
// an outage may be answered by a rule of your own, such as to let requests through. These are outages:
//
//   - UNAVAILABLE: a validator says so, with a reason, or none is in reach.
//   - DEADLINE_EXCEEDED: no validator has answered in time. Give a question less time than its request has, as Middleware
//     does; else this is how a request's own deadline ends.
//   - RESOURCE_EXHAUSTED with the reason OVERLOADED: the validator has more calls in flight than it may.
//
// Nothing else is, since a sender could bring it about and pass a rule that lets requests through:
//
//   - ctx is done: the sender has reset the request or closed its connection, or the request's time is over.
//   - INVALID_ARGUMENT: the request names something that is no app, or no scope.
//   - RESOURCE_EXHAUSTED without that reason: a message is too large for a server on the way.
//   - UNAUTHENTICATED, PERMISSION_DENIED and UNIMPLEMENTED: the setup is wrong, and stays so until somebody mends it.
//   - INTERNAL, UNKNOWN and all others: a fault in a program, which a request may have triggered.
//   - CANCELED while ctx is not done: a server on the way has ended the call, or this client is closed.
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

// over tells whether a request has ended before its question was answered with err. The question was given
// until a time.
func over(ctx context.Context, err error, until time.Time) bool {
	if ctx.Err() != nil {
		return true
	}
	// A validator ends a question at its deadline, too, and may be the first to do so.
	own, has := ctx.Deadline()
	return has && !own.After(until) && status.Code(err) == codes.DeadlineExceeded
}
