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

// boundary is where errors and panics become statuses. It is idempotent: behind the caller's interceptors
// it lets them see the code that is sent, before them it catches what they do themselves.
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

// panicked runs on the stack of the panic, whose value is logged: it must not hold a secret.
func (b *boundary) panicked(ctx context.Context, value any) error {
	method, _ := grpc.Method(ctx)
	b.logger.ErrorContext(ctx, "panic in a call",
		"method", method, "panic", fmt.Sprint(value), "stack", string(debug.Stack()))
	return errInternal.Err()
}

func (b *boundary) failed(ctx context.Context, method string, err error) error {
	return b.tell(ctx, method, err).Err()
}

// tell logs what the status does not say. An error without a cause is not logged, so a handler whose
// refusals can come at the rate of its calls returns them without one.
func (b *boundary) tell(ctx context.Context, method string, err error) *status.Status {
	told, unsaid := translate(err)
	if unsaid != nil {
		level := slog.LevelWarn
		if told.Code() == codes.Internal {
			level = slog.LevelError
		}
		b.logger.Log(ctx, level, "call failed", "method", method, "code", told.Code().String(), "error", unsaid)
	}
	return told
}
