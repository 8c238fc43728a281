// Package verification verifies the store in the background, one partition after the other. It finds data
// that was edited or damaged in Redis while running processes hold good copies, before such a process
// restarts. It only reads; an operator repairs (countersign store repair). This package is not part of the
// public API and may change in any release.
package verification

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/countersign/countersign/pkg/replica"
)

// DefaultInterval is the pause between two partitions. A store of 64 partitions takes about an hour.
const DefaultInterval = time.Minute

// Replica is what a verification needs of the authority's own replica.
type Replica interface {
	Verify(ctx context.Context, partition int) (damaged []string, err error)
}

// Keys returns the problems with the keys of a partition: wrong types, and entries that no change can follow.
type Keys func(ctx context.Context, partition int) (wrong []string, err error)

// Metrics are the metrics of a verification.
type Metrics struct {
	done    *prometheus.CounterVec
	damaged prometheus.Gauge
}

// NewMetrics registers the metrics of a verification.
func NewMetrics(registerer prometheus.Registerer) *Metrics {
	m := &Metrics{
		done: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "countersign_background_verifications_total",
			Help: "Partitions of the store that were verified in the background, by result: ok, damaged, or failed (could not be " +
				"read).",
		}, []string{"result"}),
		damaged: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "countersign_damaged_partitions",
			Help: "Partitions of the store in which the latest background verification has found damage.",
		}),
	}
	for _, result := range []string{"ok", "damaged", "failed"} {
		m.done.WithLabelValues(result)
	}
	registerer.MustRegister(m.done, m.damaged)
	return m
}

// Run verifies one partition per interval until ctx ends, which is not an error. An interval of 0 verifies
// none. Run does not wait until all partitions are loaded: one that does not prove must not hide damage in
// the others.
func Run(ctx context.Context, r Replica, keys Keys, partitions int, interval time.Duration, metrics *Metrics,
	log *slog.Logger,
) error {
	if interval <= 0 {
		return nil
	}
	damaged := make([]bool, partitions)
	for at := 0; ; at = (at + 1) % partitions {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(interval):
		}
		result := verify(ctx, r, keys, at, log)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // ctx ended during the verification, so its result proves nothing
		}
		metrics.done.WithLabelValues(result).Inc()
		if is := result == "damaged"; result != "failed" && is != damaged[at] {
			damaged[at] = is
			if is {
				metrics.damaged.Inc()
			} else {
				metrics.damaged.Dec()
				log.Info("the partition of the store proves again", "partition", at)
			}
		}
	}
}

// verify verifies one partition, and logs the damage that it finds.
func verify(ctx context.Context, r Replica, keys Keys, partition int, log *slog.Logger) (result string) {
	wrong, err := keys(ctx, partition)
	var apps []string
	if err == nil {
		apps, err = r.Verify(ctx, partition)
	}
	unproven := errors.Is(err, replica.ErrUnproven)
	if len(wrong)+len(apps) == 0 && !unproven {
		if err != nil {
			log.Warn("a partition of the store could not be verified", "partition", partition, "error", err)
			return "failed"
		}
		return "ok"
	}
	const most = 20 // apps in one line
	log.Error("the store is damaged; the copies in running processes are not (countersign store verify, countersign store "+
		"repair)",
		"partition", partition, "keys", wrong, "apps", apps[:min(len(apps), most)], "damaged_apps", len(apps), "error", err)
	return "damaged"
}
