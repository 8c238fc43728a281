package healing

import "github.com/prometheus/client_golang/prometheus"

// Metrics are the metrics of a healer.
type Metrics struct {
	heals, changes, apps, incomplete, failures prometheus.Counter
	frozen                                     prometheus.Gauge
}

// NewMetrics registers the metrics of a healer.
func NewMetrics(registerer prometheus.Registerer) *Metrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
		registerer.MustRegister(c)
		return c
	}
	m := &Metrics{
		heals: counter("countersign_heals_total", "Healings in which this authority brought back changes that the store "+
			"had lost."),
		changes: counter("countersign_healed_changes_total",
			"Lost changes that healings have settled: brought back, or given up for later changes."),
		apps: counter("countersign_healed_apps_total", "Apps whose lost changes healings have settled."),
		incomplete: counter("countersign_heals_incomplete_total",
			"Tries to heal a partition that failed because nobody had the lost changes."),
		failures: counter("countersign_heals_failed_total", "Tries to heal a partition that failed for another reason."),
		frozen: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "countersign_frozen_partitions", Help: "Partitions in which changes are refused until they are healed.",
		}),
	}
	registerer.MustRegister(m.frozen)
	return m
}
