package grpcserver

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// boundary turns the errors and panics of handlers and interceptors into statuses. It runs twice when the
// caller has interceptors: inside them, so that they see the code that is sent, and outside them, for their
// own errors and panics. A second run changes nothing. It is safe for concurrent use.
type boundary struct {
	logger        *slog.Logger
	recoverUnary  grpc.UnaryServerInterceptor
	recoverStream grpc.StreamServerInterceptor
}

func newBoundary(logger *slog.Logger) *boundary {
	b := &boundary{logger: logger}
	recovered := recovery.WithRecoveryHandlerContext(b.panicked)
	b.recoverUnary = recovery.UnaryServerInterceptor(recovered)
	b.recoverStream = recovery.StreamServerInterceptor(recovered)
	return b
}

func (b *boundary) unary(
	ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
) (any, error) {
	response, err := b.recoverUnary(ctx, request, info, handler)
	if err == nil {
		return response, nil
	}
	return nil, b.failed(ctx, info.FullMethod, err)
}

func (b *boundary) stream(
	service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler,
) error {
	err := b.recoverStream(service, stream, info, handler)
	if err == nil {
		return nil
	}
	return b.failed(stream.Context(), info.FullMethod, err)
}

// panicked logs a panic and returns the error of its call. It runs on the panic's stack. The value of a
// panic is logged, so it must not hold a secret.
func (b *boundary) panicked(ctx context.Context, value any) error {
	method, _ := grpc.Method(ctx)
	b.logger.ErrorContext(ctx, "panic in a call",
		"method", method, "panic", fmt.Sprint(value), "stack", string(debug.Stack()))
	return errInternal.Err()
}

func (b *boundary) failed(ctx context.Context, method string, err error) error {
	return b.statusOf(ctx, method, err).Err()
}

// statusOf returns the status of an error and logs the cause that the status leaves out. An error without a
// cause is not logged. Handlers that may reject at the rate of their calls should return such errors.
func (b *boundary) statusOf(ctx context.Context, method string, err error) *status.Status {
	sent, unsent := translate(err)
	if unsent != nil {
		level := slog.LevelWarn
		if sent.Code() == codes.Internal {
			level = slog.LevelError
		}
		b.logger.Log(ctx, level, "call failed", "method", method, "code", sent.Code().String(), "error", unsent)
	}
	return sent
}
