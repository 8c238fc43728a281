package grpcserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
)

// Server is a gRPC server. Services are registered on it first; then Serve is called, once. Its other
// methods are safe for concurrent use.
type Server struct {
	config   Config
	logger   *slog.Logger
	listener *counted
	grpc     *grpc.Server
	health   *health.Server
	requests *requests // nil without bounds
	edge     *boundary
	// open is how many goroutines the calls of openServices hold.
	open atomic.Int64
	// draining is done when calls in flight should end; drain does that.
	draining context.Context
	drain    context.CancelFunc
}

// New builds a server and binds its port, so that a bad configuration and a port that is taken are errors
// before anything runs, and clients may connect at once; they are answered from Serve on, which also
// releases the port. Until SetServing says otherwise the server is not serving.
//
// Interceptors come as grpc.ChainUnaryInterceptor and grpc.ChainStreamInterceptor among the options, in the
// order in which they run. Panics and errors of handlers reach them as the statuses that are sent, and
// theirs are caught and translated too. What a call does not need it does not pay for: without options the
// only interceptor is the one that turns panics and errors into statuses.
func New(config Config, logger *slog.Logger, options ...grpc.ServerOption) (*Server, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("gRPC server: %w", err)
	}
	transport, err := config.TLS.config(config.Files, "tls", "h2")
	if err != nil {
		return nil, fmt.Errorf("gRPC server: %w", err)
	}
	listener, err := listen(config.Listen)
	if err != nil {
		return nil, fmt.Errorf("gRPC server: %w", err)
	}
	base := limits(config)
	if transport != nil {
		base = append(base, grpc.Creds(credentials.NewTLS(transport)))
	}
	return build(config, logger, listener, base, options), nil
}

// build cannot fail: grpc.NewServer starts its workers, and only Serve ends them.
func build(config Config, logger *slog.Logger, listener net.Listener, base, options []grpc.ServerOption) *Server {
	server := &Server{
		config: config, logger: logger, listener: &counted{Listener: listener, most: int64(config.MaxConnections)}, requests: newRequests(config),
		health: health.NewServer(), edge: newBoundary(logger),
	}
	server.draining, server.drain = context.WithCancel(context.Background())
	edge := server.edge
	all := append(base,
		grpc.ChainUnaryInterceptor(edge.unary),
		grpc.ChainStreamInterceptor(edge.stream, server.endWatches),
	)
	if len(options) > 0 {
		all = append(all, options...)
		all = append(all, grpc.ChainUnaryInterceptor(edge.unary), grpc.ChainStreamInterceptor(edge.stream))
	}
	server.grpc = grpc.NewServer(all...)
	server.SetServing("", false)
	open := newOpenServices(server.grpc, &server.open)
	healthpb.RegisterHealthServer(open, server.health)
	if config.Reflection {
		reflection.Register(open)
	}
	return server
}

// CountRefused registers the metric of RefusedConnections.
func (s *Server) CountRefused(registry prometheus.Registerer) {
	registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "countersign_refused_connections_total", Help: "Connections that were closed as they came, because as many were open as may be.",
	}, func() float64 { return float64(s.RefusedConnections()) }))
}

// RegisterService makes Server the grpc.ServiceRegistrar that generated code asks for. The service is not
// serving until SetServing says so. It must not be called after Serve.
func (s *Server) RegisterService(service *grpc.ServiceDesc, implementation any) {
	s.grpc.RegisterService(s.requests.describe(service), implementation)
	s.SetServing(service.ServiceName, false)
}

// Addr returns the address that is listened on.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Connections returns how many connections are open.
func (s *Server) Connections() int { return int(s.listener.open.Load()) }

// OpenGoroutines returns how many goroutines the calls to health and reflection hold, which anyone may make
// and keep open.
func (s *Server) OpenGoroutines() int { return int(s.open.Load()) }

// RefusedConnections returns how many connections were closed as they came, because Config.MaxConnections
// were open.
func (s *Server) RefusedConnections() uint64 { return s.listener.refused.Load() }

// Draining is closed when calls in flight should end. A handler that could go on for as long as its client
// likes ends its stream then; nothing else tells it until the bound of the drain, when its context is
// cancelled.
func (s *Server) Draining() <-chan struct{} { return s.draining.Done() }

// Tell returns what a caller is told of an error, which is what it would be if the call had ended with it,
// and logs what is not told. It is for handlers of streams, in which one request may fail and the stream
// goes on; ctx is the stream's.
func (s *Server) Tell(ctx context.Context, err error) *status.Status {
	method, _ := grpc.Method(ctx)
	return s.edge.tell(ctx, method, err)
}

// Serve answers calls until the context is done, then drains as Config.Drain says. It returns an error if
// it could not go on, or if a handler ignored its cancelled context and was left behind; else nothing that
// it started is left when it returns. Calls that were cut at the bound are logged, not an error.
func (s *Server) Serve(ctx context.Context) error {
	s.logger.InfoContext(ctx, "serving gRPC", "address", s.Addr().String())
	var served error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		served = s.grpc.Serve(s.listener)
	}()
	select {
	case <-ended:
		s.health.Shutdown()
	case <-ctx.Done():
		s.health.Shutdown()
		time.Sleep(s.config.Drain.Settle)
	}
	s.drain()
	// GracefulStop returns after the last handler, also when Stop cut it: what handlers use may be closed
	// after Serve.
	if err := s.config.Drain.end(s.logger, s.grpc.GracefulStop, s.grpc.Stop); err != nil {
		return fmt.Errorf("gRPC server on %s: %w", s.Addr(), err)
	}
	<-ended
	if served != nil && !errors.Is(served, grpc.ErrServerStopped) {
		return fmt.Errorf("gRPC server on %s: %w", s.Addr(), served)
	}
	return nil
}
