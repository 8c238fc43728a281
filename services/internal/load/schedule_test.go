package load

import (
	"math"
	"testing"
	"time"
)

func TestConstantSchedule(t *testing.T) {
	s := NewSchedule(500, Constant, 1)
	for n := range 1000 {
		if got, want := s.Next(), time.Duration(n)*2*time.Millisecond; got.Round(time.Microsecond) != want {
			t.Fatalf("call %d is due at %s, want %s", n, got, want)
		}
	}
}

// Poisson arrivals have the given rate, and the times between them have a standard deviation equal to their
// mean.
func TestPoissonSchedule(t *testing.T) {
	const n, rate = 200_000, 3000.0
	s, again, other := NewSchedule(rate, Poisson, 7), NewSchedule(rate, Poisson, 7), NewSchedule(rate, Poisson, 8)
	var before time.Duration
	var sum, squares float64
	differ := false
	for range n {
		at := s.Next()
		if at < before {
			t.Fatalf("%s comes after %s", at, before)
		}
		gap := (at - before).Seconds()
		sum, squares, before = sum+gap, squares+gap*gap, at
		if got := again.Next(); got != at {
			t.Fatalf("the same seed: %s and %s", at, got)
		}
		differ = differ || other.Next() != at
	}
	mean := sum / n
	deviation := math.Sqrt(squares/n - mean*mean)
	if math.Abs(mean*rate-1) > 0.02 || math.Abs(deviation*rate-1) > 0.02 {
		t.Errorf("mean %f and deviation %f of the times between calls, want 1/%.0f both", mean, deviation, rate)
	}
	if !differ {
		t.Error("another seed makes the same schedule")
	}
}

func TestArrivalsFlag(t *testing.T) {
	var a Arrivals
	for text, good := range map[string]bool{"poisson": true, "constant": true, "": false, "Poisson": false, "random": false} {
		if err := a.Set(text); (err == nil) != good || good && a.String() != text {
			t.Errorf("%q: %v, %s", text, err, a)
		}
	}
}

func TestLimits(t *testing.T) {
	for _, tt := range []struct {
		limits Limits
		sent   uint64
		passed time.Duration
		want   bool
	}{
		{Limits{Calls: 3}, 2, time.Hour, false},
		{Limits{Calls: 3}, 3, 0, true},
		{Limits{Time: time.Second}, 1 << 40, time.Second - 1, false},
		{Limits{Time: time.Second}, 0, time.Second, true},
		{Limits{Calls: 3, Time: time.Second}, 1, time.Second, true},
		{Limits{Calls: 3, Time: time.Second}, 3, 0, true},
	} {
		if got := tt.limits.reached(tt.sent, tt.passed); got != tt.want {
			t.Errorf("%+v after %d calls and %s: %t", tt.limits, tt.sent, tt.passed, got)
		}
	}
}
