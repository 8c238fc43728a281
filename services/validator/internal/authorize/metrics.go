package authorize

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/validator"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// counters count the answers. The counters of decisions are looked up once, at the start, so that a call
// only adds to one of them.
type counters struct {
	decisions [policy.MaxScope + 1][maxReason + 1][2]prometheus.Counter
	undecided *prometheus.CounterVec
	latency   prometheus.Histogram
}

// maxReason is the verdict with the largest number.
const maxReason = policy.SourceNotSupported

// newCounters registers the metrics of decisions and of requests without a decision.
func newCounters(registry prometheus.Registerer, v *validator.Validator) *counters {
	decisions := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "countersign_decisions_total",
		Help: "Answers to Authorize, by scope, decision and verdict on the token.",
	}, []string{"scope", "decision", "reason"})
	c := &counters{undecided: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "countersign_undecided_total",
		Help: "Requests without a decision, by reason: INVALID_FIELD, or why nothing could be decided.",
	}, []string{"reason"})}
	c.latency = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "countersign_authorize_duration_seconds",
		Help:    "Time to answer a request after it was read. Requests with a min_revision may wait for it.",
		Buckets: []float64{2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 1e-3, 1e-2, 0.1, 1, 5},
	})
	registry.MustRegister(decisions, c.undecided, c.latency,
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "countersign_sticky_denials_total",
			Help: "Denials for a token that was seen revoked and of which the store says otherwise.",
		}, func() float64 { return float64(v.StickyDenials()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "countersign_ready",
			Help: "1 once all policies are loaded and proven, which they then stay.",
		}, func() float64 {
			if v.Ready() != nil {
				return 0
			}
			return 1
		}))
	for number, known := range scopes {
		if !known {
			continue
		}
		scope := strings.TrimPrefix(countersignv1.Scope(number).String(), "SCOPE_")
		for reason := policy.AppNotConfigured; reason <= maxReason; reason++ {
			verdict := strings.TrimPrefix(countersignv1.Reason(reason).String(), "REASON_")
			c.decisions[number][reason] = [2]prometheus.Counter{
				decisions.WithLabelValues(scope, "DENY", verdict),
				decisions.WithLabelValues(scope, "ALLOW", verdict),
			}
		}
	}
	return c
}

func (c *counters) decided(scope policy.Scope, d policy.Decision) {
	i := 0
	if d.Allow {
		i = 1
	}
	c.decisions[scope][d.Reason][i].Inc()
}

func (c *counters) took(d time.Duration) { c.latency.Observe(d.Seconds()) }

func (c *counters) failed(err error) {
	c.undecided.WithLabelValues(apierr.ReasonOf(err)).Inc()
}
