package serve

import (
	"strings"
	"testing"
)

func TestMetrics(t *testing.T) {
	m, err := parseMetrics(strings.NewReader(`# HELP countersign_resyncs_total Loads of whole partitions, by cause.
# TYPE countersign_resyncs_total counter
countersign_resyncs_total{cause="gap"} 128
countersign_resyncs_total{cause="start"} 64
countersign_partition_revision{partition="12"} 1.6384e+04
countersign_snapshot_age_seconds NaN

`))
	if err != nil {
		t.Fatal(err)
	}
	if m.gaps() != 128 || m.revision(12) != 16384 || m.revision(13) != 0 {
		t.Errorf("%v", m)
	}
	if _, err := parseMetrics(strings.NewReader("countersign_x many\n")); err == nil {
		t.Error("a value that is no number was accepted")
	}
}
