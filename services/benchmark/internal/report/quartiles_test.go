package report

import "testing"

// The wanted values come from R: quantile() with type 7, its default.
func TestQuartiles(t *testing.T) {
	for _, tt := range []struct {
		values []float64
		want   Quartiles
	}{
		{nil, Quartiles{}},
		{[]float64{5}, Quartiles{5, 5, 5}},
		{[]float64{4, 1}, Quartiles{1.75, 2.5, 3.25}},
		{[]float64{3, 1, 2}, Quartiles{1.5, 2, 2.5}},
		{[]float64{11, 1, 10, 2, 9, 3, 8, 4, 7, 5, 6}, Quartiles{3.5, 6, 8.5}},
		{[]float64{7, 7, 7, 100}, Quartiles{7, 7, 30.25}},
	} {
		if got := QuartilesOf(tt.values); got != tt.want {
			t.Errorf("%v: %v, want %v", tt.values, got, tt.want)
		}
	}
}
