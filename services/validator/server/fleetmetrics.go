package server

import (
	"math"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/countersign/countersign/pkg/validator"
)

// registerFleetMetrics registers the metrics of a validator's part in the fleet.
func registerFleetMetrics(registry prometheus.Registerer, v *validator.Validator) {
	is := func(name, help string, yes func() bool) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			if yes() {
				return 1
			}
			return 0
		})
	}
	registry.MustRegister(
		is("countersign_floor_unverified", "1 while no authority has told this validator how far the store must be at least.",
			func() bool { return !v.FloorVerified() }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "countersign_clock_skew_seconds",
			Help: "How far this validator's time of day is ahead of its authority's; NaN while that is not known.",
		}, func() float64 {
			if ahead, known := v.ClockSkew(); known {
				return ahead.Seconds()
			}
			return math.NaN()
		}),
		is(
			"countersign_validator_id_taken",
			"1 while no authority hears this validator because another one that was started later has its id.", v.IDTaken,
		),
		is("countersign_report_connected", "1 while an authority hears this validator.", v.Reporting),
	)
}
