package ledger

import "github.com/prometheus/client_golang/prometheus"

// Metrics are the metrics of a ledger.
type Metrics struct {
	batches, decisions, failures, conflicts, strange, dropped, damaged prometheus.Counter
	latest                                                             prometheus.Gauge
}

// NewMetrics registers the metrics of a ledger.
func NewMetrics(registerer prometheus.Registerer) *Metrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
		registerer.MustRegister(c)
		return c
	}
	m := &Metrics{
		batches: counter("countersign_usage_batches_added_total",
			"Batches of usage counts that this authority has added."),
		decisions: counter("countersign_usage_decisions_added_total",
			"Decisions of validators in the usage counts that this authority has added."),
		failures: counter("countersign_usage_failures_total",
			"Batches of usage counts that could not be added at once; validators send them again."),
		conflicts: counter("countersign_usage_conflicts_total",
			"Additions of usage counts that were computed anew, mostly because another authority was faster."),
		strange: counter("countersign_usage_unknown_apps_total",
			"Decisions about apps that do not exist; they are not stored."),
		dropped: counter("countersign_usage_rejected_total",
			"Decisions that are too old, or of an unknown scope or reason; they are not stored."),
		damaged: counter("countersign_usage_damaged_total",
			"Records of usage counts that could not be read; the counts of the app begin anew."),
		latest: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "countersign_usage_added_timestamp_seconds",
			Help: "When this authority has last added usage counts; 0 while it has added none.",
		}),
	}
	registerer.MustRegister(m.latest)
	return m
}

// note counts batches that were added.
func (l *Ledger) note(added []*job, judged map[*job]*verdict) {
	m := l.config.Metrics
	for _, j := range added {
		v := judged[j]
		m.batches.Inc()
		m.decisions.Add(float64(v.decisions))
		m.strange.Add(float64(v.strange))
		m.dropped.Add(float64(v.dropped))
	}
	m.latest.Set(float64(l.config.Now().Unix()))
}
