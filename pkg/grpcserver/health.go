package grpcserver

import (
	"context"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// SetServing sets what the health service (grpc.health.v1) answers for a service, given by its full name.
// The empty name means the server as a whole. It has no effect once a drain has begun: then nothing is
// serving.
func (s *Server) SetServing(service string, serving bool) {
	state := healthpb.HealthCheckResponse_NOT_SERVING
	if serving {
		state = healthpb.HealthCheckResponse_SERVING
	}
	s.health.SetServingStatus(service, state)
}

// endWatches is an interceptor that ends health watches when a drain ends streams. Clients that check
// health keep a watch open for as long as they are connected, so every drain would last until its timeout.
func (s *Server) endWatches(
	service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler,
) error {
	if info.FullMethod != healthpb.Health_Watch_FullMethodName {
		return handler(service, stream)
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	stop := context.AfterFunc(s.draining, cancel) // costs no goroutine, and there may be many watches
	defer stop()
	return handler(service, watch{ServerStream: stream, ctx: ctx})
}

// watch is the stream of a health watch, with a context that ends with the drain.
type watch struct {
	grpc.ServerStream
	ctx context.Context
}

// Context implements grpc.ServerStream.
func (w watch) Context() context.Context { return w.ctx }
