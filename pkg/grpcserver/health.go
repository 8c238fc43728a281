package grpcserver

import (
	"context"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// SetServing says in the health service whether a service, by its full name, can do its work; the empty
// name stands for the server as a whole. Once a drain has begun nothing is serving and this has no effect.
func (s *Server) SetServing(service string, serving bool) {
	state := healthpb.HealthCheckResponse_NOT_SERVING
	if serving {
		state = healthpb.HealthCheckResponse_SERVING
	}
	s.health.SetServingStatus(service, state)
}

// endWatches ends health watches when calls should end. Clients that check health keep one open for as long
// as they are connected, so with them every drain would last until its bound.
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

// watch is a stream with a context of its own.
type watch struct {
	grpc.ServerStream
	ctx context.Context
}

// Context returns the context that ends with the drain.
func (w watch) Context() context.Context { return w.ctx }
