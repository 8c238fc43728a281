package server

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/usage"
)

// B21: metrics show how many usage counts are held and how many decisions were lost.
func TestB21_UsageThatIsHeldOrLostIsShown(t *testing.T) {
	var c usage.Counter
	registry := prometheus.NewRegistry()
	registerUsageMetrics(registry, &c, func() (int, time.Duration) { return 3, 2 * time.Second })
	for minute := range int64(usage.MaxMinutes + 3) {
		c.Count(minute*60_000, 0, "app", 1, policy.Decision{Reason: policy.TokenMissing})
	}
	want := `
# HELP countersign_usage_dropped_total Decisions that were dropped from the usage counts: not taken in time, or too many.
# TYPE countersign_usage_dropped_total counter
countersign_usage_dropped_total 2
# HELP countersign_usage_entries Usage counts in memory: one for each app, token, scope, verdict and minute.
# TYPE countersign_usage_entries gauge
countersign_usage_entries 61
# HELP countersign_usage_unacknowledged_age_seconds Age of the oldest unacknowledged usage counts; 0 for none.
# TYPE countersign_usage_unacknowledged_age_seconds gauge
countersign_usage_unacknowledged_age_seconds 2
# HELP countersign_usage_unacknowledged_batches Batches of usage counts that no authority has acknowledged yet.
# TYPE countersign_usage_unacknowledged_batches gauge
countersign_usage_unacknowledged_batches 3
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}
