package load

import (
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Quantiles are percentiles of latencies, in microseconds.
type Quantiles struct {
	P50  float64 `json:"p50Micros"`
	P99  float64 `json:"p99Micros"`
	P999 float64 `json:"p999Micros"`
}

// QuantilesOf returns the quantiles of times in nanoseconds.
func QuantilesOf(h *hdrhistogram.Histogram) Quantiles {
	at := func(percentile float64) float64 {
		return float64(h.ValueAtPercentile(percentile)) / float64(time.Microsecond)
	}
	return Quantiles{at(50), at(99), at(99.9)}
}

// Micros writes a time that is given in microseconds.
func Micros(micros float64) string {
	if micros < 1000 {
		return fmt.Sprintf("%.0f us", micros)
	}
	return (time.Duration(micros*1000) * time.Nanosecond).Round(10 * time.Microsecond).String()
}
