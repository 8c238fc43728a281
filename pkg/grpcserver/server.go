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

// Server is a gRPC server. Register its services first, then call Serve, once. All other methods are safe
// for concurrent use.
type Server struct {
	config   Config
	logger   *slog.Logger
	listener *limitedListener
	grpc     *grpc.Server
	health   *health.Server
	requests *requestLimiter // nil without limits
	boundary *boundary
	// publicGoroutines is how many goroutines the calls to publicServices hold.
	publicGoroutines atomic.Int64
	// draining is done when streams should end; drain ends it.
	draining context.Context
	drain    context.CancelFunc
}

// New builds a server and binds its port. It fails when the configuration is bad or the port is in use,
// before anything runs. Clients may connect at once; Serve answers them, and closes the port when it
// returns. The health of the server is "not serving" until SetServing.
//
// Pass interceptors as grpc.ChainUnaryInterceptor and grpc.ChainStreamInterceptor; they run in that order.
// Interceptors see the errors and panics of handlers as the statuses that are sent. Their own errors and
// panics become statuses too. Without options, the boundary of errors and panics is the only interceptor.
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
	base := transportOptions(config)
	if transport != nil {
		base = append(base, grpc.Creds(credentials.NewTLS(transport)))
	}
	return build(config, logger, listener, base, options), nil
}

// build must not fail: grpc.NewServer starts its workers, and only Serve ends them.
func build(config Config, logger *slog.Logger, listener net.Listener, base, options []grpc.ServerOption) *Server {
	server := &Server{
		config: config, logger: logger,
		listener: &limitedListener{Listener: listener, max: int64(config.MaxConnections)},
		health:   health.NewServer(), requests: newRequestLimiter(config), boundary: newBoundary(logger),
	}
	server.draining, server.drain = context.WithCancel(context.Background())
	edge := server.boundary // the first and the last interceptor
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
	public := newPublicServices(server.grpc, &server.publicGoroutines)
	healthpb.RegisterHealthServer(public, server.health)
	if config.Reflection {
		reflection.Register(public)
	}
	return server
}

// RegisterMetrics registers the metrics of the server. It panics when the registry has them already.
func (s *Server) RegisterMetrics(registry prometheus.Registerer) {
	registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "countersign_refused_connections_total",
		Help: "Connections that were closed on arrival, because the largest allowed number was open.",
	}, func() float64 { return float64(s.RefusedConnections()) }))
}

// RegisterService registers a service, with the limits of Config.RequestLimits. It implements
// grpc.ServiceRegistrar for generated code. The health of the service is "not serving" until SetServing.
// RegisterService must not be called after Serve.
func (s *Server) RegisterService(service *grpc.ServiceDesc, implementation any) {
	s.grpc.RegisterService(s.requests.limit(service), implementation)
	s.SetServing(service.ServiceName, false)
}

// Addr returns the address that the server listens on.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Connections returns how many connections are open.
func (s *Server) Connections() int { return int(s.listener.open.Load()) }

// PublicGoroutines returns how many goroutines the calls to health and reflection hold. Anyone may keep such
// calls open, so a measure of load that counts goroutines must leave these out.
func (s *Server) PublicGoroutines() int { return int(s.publicGoroutines.Load()) }

// RefusedConnections returns how many connections were closed on arrival, because Config.MaxConnections
// were open.
func (s *Server) RefusedConnections() uint64 { return s.listener.rejected.Load() }

// Draining returns a channel that is closed when streams should end. The handler of a stream that has no
// end of its own returns then. Otherwise the stream lasts until Drain.Timeout, when its context is cancelled.
func (s *Server) Draining() <-chan struct{} { return s.draining.Done() }

// StatusOf returns the status that a call would end with if its handler returned err, and logs the cause
// that the status leaves out. It is for handlers of streams that go on after one request has failed; ctx is
// the stream's.
func (s *Server) StatusOf(ctx context.Context, err error) *status.Status {
	method, _ := grpc.Method(ctx)
	return s.boundary.statusOf(ctx, method, err)
}

// Serve answers calls until ctx is done, then drains as Config.Drain says. It returns an error if serving
// has failed, or if a handler still runs after its context was cancelled. Without an error, nothing that it
// started still runs. Calls that were cut at Drain.Timeout are logged and are no error.
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
		time.Sleep(s.config.Drain.Delay)
	}
	s.drain()
	// GracefulStop returns after the last handler has, even when Stop cuts calls. The caller may therefore
	// close what handlers use once Serve has returned.
	if err := s.config.Drain.end(s.logger, s.grpc.GracefulStop, s.grpc.Stop); err != nil {
		return fmt.Errorf("gRPC server on %s: %w", s.Addr(), err)
	}
	<-ended
	if served != nil && !errors.Is(served, grpc.ErrServerStopped) {
		return fmt.Errorf("gRPC server on %s: %w", s.Addr(), served)
	}
	return nil
}
