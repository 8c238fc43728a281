package grpcserver

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/pkg/apierr"
)

// errInternal is all that a caller learns about an unforeseen failure.
var errInternal = status.New(codes.Internal, "internal error")

// translate returns the status to send for an error. It also returns the error itself when the status leaves
// out a cause that the log should show, else nil.
//
// Two kinds of errors say more to the caller than a code: an apierr.Error, however deeply wrapped, and a
// status that is not wrapped. The texts of wrappers are never sent. grpc-go alone would send them all.
//
// A wrapped status came from a call that this process made. Its code describes that call, so it is not
// passed on, except for CANCELLED and DEADLINE_EXCEEDED: these usually mean that our caller gave up.
func translate(err error) (sent *status.Status, unsent error) {
	if e := (*apierr.Error)(nil); errors.As(err, &e) {
		if e.Unwrap() == nil {
			return e.GRPCStatus(), nil
		}
		return e.GRPCStatus(), err
	}
	if e, ok := err.(interface{ GRPCStatus() *status.Status }); ok {
		// A status that claims success would make the call succeed without an answer.
		if sent := e.GRPCStatus(); sent.Code() != codes.OK {
			return sent, nil
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
