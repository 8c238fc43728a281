package daemon

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/countersign/countersign/pkg/reload"
)

// NewRegistry returns a registry with the usual metrics of a Go process, and the metrics of its log and its
// files.
func NewRegistry(c Config) *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		files{c.Files})
	if c.DroppedLines != nil {
		registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "countersign_log_lines_dropped_total",
			Help: "Lines of the log that were lost, because nobody read it.",
		}, func() float64 { return float64(c.DroppedLines()) }))
	}
	return registry
}

// files collects the status of the files that are read again.
type files struct{ of *reload.Files }

var (
	reloads = prometheus.NewDesc("countersign_file_reloads_total",
		"Changes of a file, by file and result: ok, or failed when the previous content stays in use.", []string{
			"file",
			"result",
		}, nil)
	refused = prometheus.NewDesc("countersign_file_refused",
		"1 while a file cannot be used and its previous content stays in use.", []string{"file"}, nil)
	expiry = prometheus.NewDesc("countersign_certificate_expiry_timestamp_seconds",
		"When the certificate that is in use expires, in seconds since 1970.", []string{"file"}, nil)
)

// Describe implements prometheus.Collector.
func (files) Describe(descriptions chan<- *prometheus.Desc) {
	descriptions <- reloads
	descriptions <- refused
	descriptions <- expiry
}

// Collect implements prometheus.Collector.
func (f files) Collect(metrics chan<- prometheus.Metric) {
	for _, s := range f.of.Status() {
		isRefused := 0.0
		if s.Refused {
			isRefused = 1
		}
		metrics <- prometheus.MustNewConstMetric(reloads, prometheus.CounterValue, float64(s.Reloads), s.Name, "ok")
		metrics <- prometheus.MustNewConstMetric(reloads, prometheus.CounterValue, float64(s.Failures), s.Name, "failed")
		metrics <- prometheus.MustNewConstMetric(refused, prometheus.GaugeValue, isRefused, s.Name)
		if !s.Expires.IsZero() {
			metrics <- prometheus.MustNewConstMetric(expiry, prometheus.GaugeValue, float64(s.Expires.Unix()), s.Name)
		}
	}
}
