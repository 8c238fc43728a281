package grpcserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/countersign/countersign/pkg/reload"
)

const (
	// readHeaderTimeout and readTimeout bound how long a request may take to arrive, header and whole.
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 30 * time.Second

	// writeTimeout bounds a request from the end of its header to the end of its answer. A handler that
	// needs longer, such as a wait for propagation, extends it with http.ResponseController.
	writeTimeout = time.Minute

	// maxHTTPConnections is how many connections may be open. A connection above it evicts another one, so
	// that probes are answered however many idle connections clients keep.
	maxHTTPConnections = 512

	// idleTimeout is longer than the usual interval of probes and scrapes, so that they reuse connections.
	idleTimeout = 2 * time.Minute
)

// HTTPConfig configures an HTTP server.
type HTTPConfig struct {
	// Listen is the host:port to listen on; an empty host means every interface.
	Listen string
	// TLS names the server's certificate files; the zero value means plain text.
	TLS TLS
	// Files reloads the files of TLS when they change; nil reads them once.
	Files *reload.Files
	// Ready returns why the process cannot do its work, nil when it can. /readyz shows the error's text to
	// anyone who asks. It is called for every probe, concurrently. A nil Ready means always ready.
	Ready func() error
	// Detail returns a line that /readyz shows below "ok", concurrently; nil means none.
	Detail func() string
	// Metrics are served on /metrics; nil means none.
	Metrics *prometheus.Registry
	// Handler gets all other paths; nil answers them with 404.
	Handler http.Handler
	// Drain configures how Serve ends.
	Drain Drain
}

// HTTPServer serves /livez, /readyz, /metrics and HTTPConfig.Handler. Its methods are safe for concurrent
// use; Serve is called once.
type HTTPServer struct {
	config   HTTPConfig
	logger   *slog.Logger
	listener net.Listener
	evictor  *connectionEvictor
	draining atomic.Bool
}

// NewHTTP builds a server and binds its port, as New does. Serve closes the port.
func NewHTTP(config HTTPConfig, logger *slog.Logger) (*HTTPServer, error) {
	drain, err := config.Drain.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("HTTP server: %w", err)
	}
	config.Drain = drain
	transport, err := config.TLS.config(config.Files, "http-tls", "h2", "http/1.1")
	if err != nil {
		return nil, fmt.Errorf("HTTP server: %w", err)
	}
	listener, err := listen(config.Listen)
	if err != nil {
		return nil, fmt.Errorf("HTTP server: %w", err)
	}
	evictor := newConnectionEvictor()
	listener = &limitedListener{Listener: listener, max: maxHTTPConnections, evict: evictor.evict}
	if transport != nil {
		listener = tls.NewListener(listener, transport)
	}
	return &HTTPServer{config: config, logger: logger, listener: listener, evictor: evictor}, nil
}

// Addr returns the address that the server listens on.
func (s *HTTPServer) Addr() net.Addr { return s.listener.Addr() }

// Serve answers requests until ctx is done, then drains as HTTPConfig.Drain says; /readyz fails from the
// start of the drain. It returns an error if serving has failed, or if a handler still runs after its
// context was cancelled. Requests that were cut at Drain.Timeout are logged and are no error.
func (s *HTTPServer) Serve(ctx context.Context) error {
	s.logger.InfoContext(ctx, "serving HTTP", "address", s.Addr().String())
	requests, cancelRequests := context.WithCancel(context.WithoutCancel(ctx))
	defer cancelRequests()
	inFlight := &inFlight{handler: s.routes()}
	server := &http.Server{
		Handler:           inFlight,
		BaseContext:       func(net.Listener) context.Context { return requests },
		ErrorLog:          slog.NewLogLogger(s.logger.Handler(), slog.LevelWarn),
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderList,
		ConnState:         s.evictor.track,
	}
	var served error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		served = server.Serve(s.listener)
	}()
	select {
	case <-ended:
		s.draining.Store(true)
	case <-ctx.Done():
		s.draining.Store(true)
		time.Sleep(s.config.Drain.Delay)
	}
	graceful := func() {
		// Shutdown fails only when its context is cancelled, and only cut cancels it.
		_ = server.Shutdown(requests)
		<-ended
		inFlight.wait()
	}
	cut := func() {
		cancelRequests()
		server.Close()
	}
	if err := s.config.Drain.end(s.logger, graceful, cut); err != nil {
		return fmt.Errorf("HTTP server on %s: %w", s.Addr(), err)
	}
	if !errors.Is(served, http.ErrServerClosed) {
		return fmt.Errorf("HTTP server on %s: %w", s.Addr(), served)
	}
	return nil
}
