package server

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/countersign/countersign/pkg/usage"
)

// registerUsageMetrics registers the numbers of usage counts that wait to be taken, and of decisions that
// were lost.
func registerUsageMetrics(registry prometheus.Registerer, c *usage.Counter) {
	registry.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "countersign_usage_entries",
			Help: "Usage counts in memory: one for each app, token, scope, verdict and minute.",
		}, func() float64 { return float64(c.Stats().Entries) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "countersign_usage_dropped_total",
			Help: "Decisions that were dropped from the usage counts: not taken in time, or too many.",
		}, func() float64 { return float64(c.Stats().Dropped) }),
	)
}
