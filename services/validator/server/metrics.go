package server

import (
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/countersign/countersign/pkg/validator"
)

// registerSnapshotMetrics registers the metrics of the snapshot file, if one is configured.
func registerSnapshotMetrics(registry prometheus.Registerer, v *validator.Validator) {
	if _, wanted := v.Snapshot(); !wanted {
		return
	}
	failures := func(operation string, of func(validator.SnapshotStats) uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name:        "countersign_snapshot_errors_total",
			Help:        "How often the snapshot file could not be used, by operation: read or write.",
			ConstLabels: prometheus.Labels{"operation": operation},
		}, func() float64 {
			stats, _ := v.Snapshot()
			return float64(of(stats))
		})
	}
	registry.MustRegister(
		failures("read", func(s validator.SnapshotStats) uint64 { return s.ReadErrors }),
		failures("write", func(s validator.SnapshotStats) uint64 { return s.WriteErrors }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "countersign_snapshot_age_seconds",
			Help: "How long ago the latest copy in the snapshot file was begun; NaN when there is none.",
		}, func() float64 {
			stats, _ := v.Snapshot()
			if stats.Time.IsZero() {
				return math.NaN()
			}
			return time.Since(stats.Time).Seconds()
		}),
	)
}
