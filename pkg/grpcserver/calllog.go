package grpcserver

import (
	"context"
	"log/slog"
	"strings"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/logging"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// callFields are what a line about a call may hold, all else is left out: the words of an error may repeat
// what the caller sent, and fields that others put into the context may be metadata.
var callFields = map[string]bool{
	logging.ServiceFieldKey: true,
	logging.MethodFieldKey:  true,
	"peer.address":          true,
	"grpc.code":             true,
	"grpc.duration":         true,
}

// LogCalls returns an interceptor that writes one line when a unary call ends: service, method, code,
// duration, peer; never payloads or metadata, and nothing of health checks. The level follows the code. It
// adds a good third to the cost of an empty call, so it is for management calls, not for Authorize. It is
// safe for concurrent use.
func LogCalls(logger *slog.Logger) grpc.UnaryServerInterceptor {
	write := func(ctx context.Context, level logging.Level, message string, fields ...any) {
		kept := make([]any, 0, 2*len(callFields))
		for it := logging.Fields(fields).Iterator(); it.Next(); {
			if key, value := it.At(); callFields[key] {
				kept = append(kept, key, value)
			}
		}
		logger.Log(ctx, slog.Level(level), message, kept...)
	}
	logged := logging.UnaryServerInterceptor(logging.LoggerFunc(write),
		logging.WithLogOnEvents(logging.FinishCall),
		logging.WithDurationField(logging.DurationToDurationField),
		logging.WithCodes(func(err error) codes.Code {
			if err == nil {
				return codes.OK
			}
			told, _ := translate(err)
			return told.Code()
		}),
	)
	return func(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		if strings.HasPrefix(info.FullMethod, "/"+healthpb.Health_ServiceDesc.ServiceName+"/") {
			return handler(ctx, request) // probes come every few seconds, and say nothing
		}
		return logged(ctx, request, info, handler)
	}
}
