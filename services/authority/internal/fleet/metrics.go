package fleet

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// Metrics are those of a fleet.
type Metrics struct {
	registry    atomic.Pointer[Registry]
	reports     prometheus.Counter
	implausible prometheus.Counter
	divergences prometheus.Counter
	receipts    *prometheus.CounterVec
	validators  *prometheus.Desc
	skews       *prometheus.Desc
	foreign     *prometheus.Desc
}

// NewMetrics registers the metrics of a fleet.
func NewMetrics(registerer prometheus.Registerer) *Metrics {
	m := &Metrics{
		reports: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "countersign_fleet_reports_total", Help: "Reports of validators that came to this authority.",
		}),
		implausible: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "countersign_fleet_implausible_positions_total",
			Help: "Positions that validators have claimed and that are too far beyond the store to be one of it.",
		}),
		divergences: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "countersign_fleet_divergences_total",
			Help: "Reports whose state digest is another than this authority's at the same place.",
		}),
		receipts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "countersign_receipts_total", Help: "Receipts that were waited for, by whether every validator had the change.",
		}, []string{"complete"}),
		validators: prometheus.NewDesc("countersign_fleet_validators", "Validators that this authority knows of, by state.",
			[]string{"state"}, nil),
		skews: prometheus.NewDesc("countersign_validator_clock_skew_seconds",
			"How far a validator's time of day is ahead of this authority's, by validator; not there while it is not known.", []string{"validator"}, nil),
	}
	m.foreign = prometheus.NewDesc("countersign_fleet_list_key_missing",
		"1 while the list of validators is signed with a key that this authority's key ring lacks: no receipt is complete here.", nil, nil)
	m.receipts.WithLabelValues("true")
	m.receipts.WithLabelValues("false")
	registerer.MustRegister(m.reports, m.implausible, m.divergences, m.receipts, m)
	return m
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(descriptions chan<- *prometheus.Desc) {
	descriptions <- m.validators
	descriptions <- m.skews
	descriptions <- m.foreign
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(metrics chan<- prometheus.Metric) {
	names := map[countersignv1.ValidatorState]string{
		countersignv1.ValidatorState_VALIDATOR_STATE_REPORTING: "reporting",
		countersignv1.ValidatorState_VALIDATOR_STATE_FENCED:    "fenced",
		countersignv1.ValidatorState_VALIDATOR_STATE_LOST:      "lost",
	}
	counts := map[countersignv1.ValidatorState]int{}
	skews, foreign := map[string]time.Duration{}, 0.0
	if r := m.registry.Load(); r != nil {
		now := time.Now()
		r.mu.Lock()
		for _, member := range r.members {
			if member.Gone {
				continue
			}
			counts[member.state(now)]++
			if ahead, known := member.clock.skew(); known {
				skews[member.ID] = ahead
			}
		}
		counts[countersignv1.ValidatorState_VALIDATOR_STATE_LOST] += len(r.strangers())
		if r.membership.foreign {
			foreign = 1
		}
		r.mu.Unlock()
	}
	metrics <- prometheus.MustNewConstMetric(m.foreign, prometheus.GaugeValue, foreign)
	for id, ahead := range skews {
		metrics <- prometheus.MustNewConstMetric(m.skews, prometheus.GaugeValue, ahead.Seconds(), id)
	}
	for state, name := range names {
		metrics <- prometheus.MustNewConstMetric(m.validators, prometheus.GaugeValue, float64(counts[state]), name)
	}
}
