package grpcserver

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/pkg/apierr"
)

// errInternal is all that a caller learns of a failure nobody foresaw.
var errInternal = status.New(codes.Internal, "internal error")

// translate returns what the caller is told of an error, and the error itself if it holds a cause that only
// a log can tell. Only an error made to be told says more than its code: one of apierr, however deep it is
// wrapped, or a status that was returned as it is. The words of wrappers are never sent; grpc-go, left to
// itself, would send them all.
//
// A status inside a wrapper came from a call that this process made. Its code speaks of us, not of our
// caller, so it is not passed on, but for the codes that say that the call was given up.
func translate(err error) (told *status.Status, unsaid error) {
	if e := (*apierr.Error)(nil); errors.As(err, &e) {
		if e.Unwrap() == nil {
			return e.GRPCStatus(), nil
		}
		return e.GRPCStatus(), err
	}
	if e, ok := err.(interface{ GRPCStatus() *status.Status }); ok {
		// With a status that claims success the call would succeed without an answer.
		if told := e.GRPCStatus(); told.Code() != codes.OK {
			return told, nil
		}
		return errInternal, err
	}
	switch code := status.Code(err); {
	case errors.Is(err, context.DeadlineExceeded), code == codes.DeadlineExceeded:
		return status.FromContextError(context.DeadlineExceeded), nil
	case errors.Is(err, context.Canceled), code == codes.Canceled:
		return status.FromContextError(context.Canceled), nil
	}
	return errInternal, err
}
