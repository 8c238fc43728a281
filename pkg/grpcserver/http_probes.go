package grpcserver

import (
	"fmt"
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// maxScrapes is the largest number of concurrent requests for /metrics; each gathers all metrics.
const maxScrapes = 4

// routes returns the handler of all paths:
//
//   - /livez answers 200 as long as the process runs, so that an outage elsewhere restarts nothing.
//   - /readyz answers 503 with the reason when the process should get no calls, else 200.
//   - /metrics is for Prometheus.
//   - HTTPConfig.Handler gets the rest.
func (s *HTTPServer) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { answerProbe(w, "", nil) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		answerProbe(w, s.unready(), s.config.Detail)
	})
	if s.config.Metrics != nil {
		mux.Handle("GET /metrics", promhttp.HandlerFor(s.config.Metrics, promhttp.HandlerOpts{
			ErrorLog:            slog.NewLogLogger(s.logger.Handler(), slog.LevelError),
			MaxRequestsInFlight: maxScrapes,
		}))
	}
	if s.config.Handler != nil {
		mux.Handle("/", s.config.Handler)
	}
	return mux
}

// unready returns why the process should get no calls; empty when it should.
func (s *HTTPServer) unready() string {
	if s.draining.Load() {
		return "shutting down"
	}
	if s.config.Ready == nil {
		return ""
	}
	if err := s.config.Ready(); err != nil {
		return err.Error()
	}
	return ""
}

func answerProbe(w http.ResponseWriter, failure string, detail func() string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if failure != "" {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintln(w, failure)
		return
	}
	fmt.Fprintln(w, "ok")
	if detail != nil {
		fmt.Fprintln(w, detail())
	}
}
