// Package report holds what the reports of all measurements share: the results of a server's turns and their
// summary, quartiles, the description of the machine, the form of numbers, and the style of pictures.
// Measuring is the job of package testbed.
//
// This package is not part of the public API and may change in any release.
package report

import (
	"math"
	"slices"
)

// Quartiles are the median of some values, and the values at a quarter and at three quarters of their order.
type Quartiles struct {
	Q1     float64 `json:"q1"`
	Median float64 `json:"median"`
	Q3     float64 `json:"q3"`
}

// Ratio is one value divided by another of the same round, in quartiles by rounds.
type Ratio = Quartiles

// QuartilesOf returns the quartiles of values. It interpolates between neighbours (Hyndman and Fan, 1996,
// type 7). Without values all quartiles are 0.
func QuartilesOf(values []float64) Quartiles {
	sorted := slices.Sorted(slices.Values(values))
	return Quartiles{quantile(sorted, 0.25), quantile(sorted, 0.5), quantile(sorted, 0.75)}
}

func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	whole, part := math.Modf(q * float64(len(sorted)-1))
	i := int(whole)
	if i+1 == len(sorted) {
		return sorted[i]
	}
	return sorted[i] + part*(sorted[i+1]-sorted[i])
}
