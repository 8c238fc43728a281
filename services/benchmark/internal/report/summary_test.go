package report_test

import (
	"testing"
	"time"

	"github.com/countersign/countersign/services/benchmark/internal/report"
	"github.com/countersign/countersign/services/benchmark/internal/report/reporttest"
)

// Ratios are between values of one round, so changes of the machine between rounds do not show in them.
func TestSummary(t *testing.T) {
	s, empty := report.Summarise(report.Validator, reporttest.Turns()), report.Summarise(report.Empty, reporttest.Turns())
	if s.Leg != "validator" || s.Calls != 330 || s.Allocations.Median != 50 ||
		s.CPUNanos != (report.Quartiles{Q1: 16500, Median: 22000, Q3: 27500}) {
		t.Errorf("%+v", s)
	}
	near := func(got, want float64) bool { return got > want*0.999 && got < want*1.001 }
	for name, r := range map[string]struct {
		got  *report.Ratio
		want float64
	}{
		"to tuned": {s.ToTuned, 1.1}, "to empty": {s.ToEmpty, 0.55},
		"p99 to tuned": {s.Open[0].P99ToTuned, 2}, "p99 to empty": {s.Open[0].P99ToEmpty, 2},
		"p50 to tuned": {s.Open[0].P50ToTuned, 2}, "p50 to empty": {s.Open[0].P50ToEmpty, 2},
		"to itself": {s.ToValidator, 1}, "empty to validator": {empty.ToValidator, 20 / 11.},
	} {
		if r.got == nil || !near(r.got.Q1, r.want) || !near(r.got.Median, r.want) || !near(r.got.Q3, r.want) {
			t.Errorf("%s: %v, want %v", name, r.got, r.want)
		}
	}
	if o := s.Open[0]; o.Calls != 30 || o.Rate != 500 || !near(o.P50, 2000) || !near(o.P999, 2000) {
		t.Errorf("%+v", o)
	}
}

func TestSummaryWithoutReference(t *testing.T) {
	s := report.Summarise(report.Validator, []*report.Turn{reporttest.Turn(1, report.Validator, 10, time.Millisecond)})
	if s.ToEmpty != nil || s.ToTuned != nil || s.Open[0].P99ToTuned != nil {
		t.Errorf("%+v", s)
	}
}
