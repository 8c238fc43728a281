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

// callFields are the fields that the log line of a call may have. All others are left out: the text of an
// error may repeat what the caller sent, and fields from the context may be metadata.
var callFields = map[string]bool{
	logging.ServiceFieldKey: true,
	logging.MethodFieldKey:  true,
	"peer.address":          true,
	"grpc.code":             true,
	"grpc.duration":         true,
}

// LogCalls returns an interceptor that logs one line when a unary call ends: service, method, code, duration
// and peer. It logs neither payloads nor metadata, and no health checks. The level follows the code. The
// interceptor adds more than a third to the cost of an empty call, so it is for management calls, not for
// Authorize. It is safe for concurrent use.
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
			sent, _ := translate(err)
			return sent.Code()
		}),
	)
	return func(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		if strings.HasPrefix(info.FullMethod, "/"+healthpb.Health_ServiceDesc.ServiceName+"/") {
			return handler(ctx, request) // health checks come every few seconds and would fill the log
		}
		return logged(ctx, request, info, handler)
	}
}
