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
	// readHeaderTimeout and readTimeout bound how slowly a request may trickle in and so hold a connection.
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 30 * time.Second

	// writeTimeout bounds a request as a whole, from its header on. A handler that needs longer, such as
	// one that waits for propagation, extends it with http.ResponseController.
	writeTimeout = time.Minute

	// maxHTTPConnections is how many connections may be open at once, of probes, scrapes and people. One
	// more closes the oldest, so that a probe is answered however many others keep.
	maxHTTPConnections = 512

	// idleTimeout outlasts the usual interval of probes and scrapes, so that they keep their connections.
	idleTimeout = 2 * time.Minute
)

// HTTPConfig is what an HTTP server is started with.
type HTTPConfig struct {
	// Listen is the host:port to listen on; an empty host means every interface.
	Listen string
	// TLS is empty for plain text.
	TLS TLS
	// Files read the files of TLS again when they change; nil: they are read once.
	Files *reload.Files
	// Ready returns why the process cannot do its work yet, nil when it can. Its words are shown to anyone
	// who asks. It is called for every probe, possibly by several at once. Nil means always ready.
	Ready func() error
	// Detail returns a line that /readyz shows beside "ok"; nil means none.
	Detail func() string
	// Metrics are served on /metrics; nil means none.
	Metrics *prometheus.Registry
	// Handler gets all other paths; nil means that there are none.
	Handler http.Handler
	// Drain says how Serve ends.
	Drain Drain
}

// HTTPServer serves /livez, /readyz, /metrics and what else it was given. Its methods are safe for
// concurrent use; Serve is called once.
type HTTPServer struct {
	config   HTTPConfig
	logger   *slog.Logger
	listener net.Listener
	oldest   *oldest
	draining atomic.Bool
}

// NewHTTP builds a server and binds its port, for the same reasons as New; Serve releases it.
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
	oldest := newOldest()
	listener = &counted{Listener: listener, most: maxHTTPConnections, spare: oldest.close}
	if transport != nil {
		listener = tls.NewListener(listener, transport)
	}
	return &HTTPServer{config: config, logger: logger, listener: listener, oldest: oldest}, nil
}

// Addr returns the address that is listened on.
func (s *HTTPServer) Addr() net.Addr { return s.listener.Addr() }

// Serve answers requests until the context is done, then drains as HTTPConfig.Drain says: /readyz fails
// from the start of the settle time on. It returns an error if it could not go on, or if a handler ignored
// its cancelled context and was left behind. Requests that were cut at the bound are logged, not an error.
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
		ConnState:         s.oldest.note,
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
		time.Sleep(s.config.Drain.Settle)
	}
	graceful := func() {
		// Its error is that of its context, which is cancelled only by the cut.
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
