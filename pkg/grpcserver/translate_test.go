package grpcserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/pkg/apierr"
)

// claimsOK is an error whose status is OK.
type claimsOK struct{ error }

func (claimsOK) GRPCStatus() *status.Status { return nil }

var translations = []struct {
	name    string
	err     error
	code    codes.Code
	message string
	reason  string
	unsent  bool
}{
	{
		"domain", apierr.NotFound("TOKEN_NOT_FOUND", "no such token"),
		codes.NotFound, "no such token", "TOKEN_NOT_FOUND", false,
	},
	{
		"domain with cause",
		apierr.Unavailable(apierr.StoreUnavailable, "store unavailable").Because(errors.New("dial 10.1.2.3")),
		codes.Unavailable, "store unavailable", apierr.StoreUnavailable, true,
	},
	{
		"domain wrapped",
		fmt.Errorf("app abc at 10.1.2.3: %w", fmt.Errorf("load: %w", apierr.Aborted("ETAG_STALE", "read again"))),
		codes.Aborted, "read again", "ETAG_STALE", false,
	},
	{
		"domain joined", errors.Join(errors.New("close 10.1.2.3"), apierr.Aborted("ETAG_STALE", "read again")),
		codes.Aborted, "read again", "ETAG_STALE", false,
	},
	{
		"domain because of a status",
		apierr.NotFound("NONE", "none").Because(status.Error(codes.PermissionDenied, "10.1.2.3")),
		codes.NotFound, "none", "NONE", true,
	},
	{
		"domain because of a context", apierr.Unavailable(apierr.OutcomeUnknown, "unknown").Because(context.DeadlineExceeded),
		codes.Unavailable, "unknown", apierr.OutcomeUnknown, true,
	},
	{
		"status", status.Error(codes.OutOfRange, "page token"),
		codes.OutOfRange, "page token", "", false,
	},
	{
		"status wrapped", fmt.Errorf("ask 10.1.2.3: %w", status.Error(codes.PermissionDenied, "not you")),
		codes.Internal, "internal error", "", true,
	},
	{
		"status that claims success",
		claimsOK{errors.New("10.1.2.3")},
		codes.Internal, "internal error", "", true,
	},
	{
		"cancelled", context.Canceled,
		codes.Canceled, "context canceled", "", false,
	},
	{
		"cancelled wrapped", fmt.Errorf("read 10.1.2.3: %w", context.Canceled),
		codes.Canceled, "context canceled", "", false,
	},
	{
		"cancelled call of ours", fmt.Errorf("read 10.1.2.3: %w", status.Error(codes.Canceled, "10.1.2.3")),
		codes.Canceled, "context canceled", "", false,
	},
	{
		"deadline", context.DeadlineExceeded,
		codes.DeadlineExceeded, "context deadline exceeded", "", false,
	},
	{
		"deadline wrapped", fmt.Errorf("read 10.1.2.3: %w", context.DeadlineExceeded),
		codes.DeadlineExceeded, "context deadline exceeded", "", false,
	},
	{
		"deadline of a call of ours", fmt.Errorf("read 10.1.2.3: %w", status.Error(codes.DeadlineExceeded, "10.1.2.3")),
		codes.DeadlineExceeded, "context deadline exceeded", "", false,
	},
	{
		"anything else", errors.New("dial 10.1.2.3"),
		codes.Internal, "internal error", "", true,
	},
	{
		"end of file", io.EOF,
		codes.Internal, "internal error", "", true,
	},
}

func TestTranslate(t *testing.T) {
	for _, tt := range translations {
		t.Run(tt.name, func(t *testing.T) {
			sent, unsent := translate(tt.err)
			if sent.Code() != tt.code || sent.Message() != tt.message {
				t.Errorf("translate = %v %q, want %v %q", sent.Code(), sent.Message(), tt.code, tt.message)
			}
			if got := apierr.ReasonOf(sent.Err()); got != tt.reason {
				t.Errorf("reason = %q, want %q", got, tt.reason)
			}
			if got := unsent != nil; got != tt.unsent {
				t.Errorf("a cause to log: %t, want %t", got, tt.unsent)
			}
			again, unsent := translate(sent.Err())
			if again.Code() != tt.code || again.Message() != tt.message || unsent != nil {
				t.Errorf("translated again = %v, want the same, and nothing to log", again)
			}
		})
	}
}
