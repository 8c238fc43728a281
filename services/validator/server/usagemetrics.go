package server

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/countersign/countersign/pkg/usage"
)

// registerUsageMetrics registers the numbers of usage counts that wait to be taken or acknowledged, and of
// decisions that were lost. unacknowledged is as inside.UnacknowledgedUsage.
func registerUsageMetrics(registry prometheus.Registerer, c *usage.Counter, unacknowledged func() (int, time.Duration)) {
	registry.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "countersign_usage_entries",
			Help: "Usage counts in memory: one for each app, token, scope, verdict and minute.",
		}, func() float64 { return float64(c.Stats().Entries) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "countersign_usage_dropped_total",
			Help: "Decisions that were dropped from the usage counts: not taken in time, or too many.",
		}, func() float64 { return float64(c.Stats().Dropped) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "countersign_usage_unacknowledged_batches",
			Help: "Batches of usage counts that no authority has acknowledged yet.",
		}, func() float64 { batches, _ := unacknowledged(); return float64(batches) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "countersign_usage_unacknowledged_age_seconds",
			Help: "Age of the oldest unacknowledged usage counts; 0 for none.",
		}, func() float64 { _, age := unacknowledged(); return age.Seconds() }),
	)
}
