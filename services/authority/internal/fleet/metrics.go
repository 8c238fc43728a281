package fleet

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// Metrics are the metrics of a fleet.
type Metrics struct {
	registry    atomic.Pointer[Registry]
	reports     prometheus.Counter
	implausible prometheus.Counter
	divergences prometheus.Counter
	receipts    *prometheus.CounterVec
	validators  *prometheus.Desc
	skews       *prometheus.Desc
	unknown     *prometheus.Desc
}

// NewMetrics registers the metrics of a fleet.
func NewMetrics(registerer prometheus.Registerer) *Metrics {
	m := &Metrics{
		reports: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "countersign_fleet_reports_total", Help: "Reports that validators have sent to this authority.",
		}),
		implausible: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "countersign_fleet_implausible_positions_total",
			Help: "Positions that validators have reported, and that are too far beyond the store to be real.",
		}),
		divergences: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "countersign_fleet_divergences_total",
			Help: "Reports whose state digest differs from this authority's at the same cursor.",
		}),
		receipts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "countersign_receipts_total", Help: "Receipts that were waited for, by whether every validator had the change.",
		}, []string{"complete"}),
		validators: prometheus.NewDesc("countersign_fleet_validators", "Validators that this authority knows of, by state.",
			[]string{"state"}, nil),
		skews: prometheus.NewDesc("countersign_validator_clock_skew_seconds",
			"How far a validator's clock is ahead of this authority's, by validator; absent while it is unknown.",
			[]string{"validator"}, nil),
	}
	m.unknown = prometheus.NewDesc("countersign_fleet_members_unknown",
		"1 while no receipt is complete because the members of the fleet are unknown, by reason: "+
			"the list of validators is signed with a key that this authority lacks (key_missing), "+
			"or it was removed or damaged (list_lost).",
		[]string{"reason"}, nil)
	m.receipts.WithLabelValues("true")
	m.receipts.WithLabelValues("false")
	registerer.MustRegister(m.reports, m.implausible, m.divergences, m.receipts, m)
	return m
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(descriptions chan<- *prometheus.Desc) {
	descriptions <- m.validators
	descriptions <- m.skews
	descriptions <- m.unknown
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(metrics chan<- prometheus.Metric) {
	names := map[countersignv1.ValidatorState]string{
		countersignv1.ValidatorState_VALIDATOR_STATE_REPORTING: "reporting",
		countersignv1.ValidatorState_VALIDATOR_STATE_FENCED:    "fenced",
		countersignv1.ValidatorState_VALIDATOR_STATE_LOST:      "lost",
	}
	counts := map[countersignv1.ValidatorState]int{}
	skews, unknown := map[string]time.Duration{}, membersKnown
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
		counts[countersignv1.ValidatorState_VALIDATOR_STATE_LOST] += len(r.unverified())
		unknown = r.membership.unknown
		r.mu.Unlock()
	}
	for reason, name := range map[unknownReason]string{listForeign: "key_missing", listLost: "list_lost"} {
		value := 0.0
		if reason == unknown {
			value = 1
		}
		metrics <- prometheus.MustNewConstMetric(m.unknown, prometheus.GaugeValue, value, name)
	}
	for id, ahead := range skews {
		metrics <- prometheus.MustNewConstMetric(m.skews, prometheus.GaugeValue, ahead.Seconds(), id)
	}
	for state, name := range names {
		metrics <- prometheus.MustNewConstMetric(m.validators, prometheus.GaugeValue, float64(counts[state]), name)
	}
}
