package replica_test

import (
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/countersign/countersign/pkg/replica"
)

// withWall returns a time whose wall clock reading is moved and whose monotonic reading is not: what time.Now returns
// after the clock was set, or after a sleep of the machine that only one of the clocks has counted. There is no other
// way to make one (package time, Monotonic Clocks), so the representation is checked by what it does.
func withWall(t *testing.T, at time.Time, moved time.Duration) time.Time {
	t.Helper()
	changed := at
	// The first word has the wall seconds in bits 30 to 62 when there is a monotonic reading.
	*(*uint64)(unsafe.Pointer(&changed)) += uint64(int64(moved/time.Second) << 30)
	if changed.Sub(at) != 0 || changed.Round(0).Sub(at.Round(0)) != moved {
		t.Fatalf("time.Time has another representation: %v became %v", at, changed)
	}
	return changed
}

// TestAgeIsTheLargerOfMonotonicAndWallTime, so that neither a clock that was set nor a machine that slept makes old
// data look fresh.
func TestAgeIsTheLargerOfMonotonicAndWallTime(t *testing.T) {
	marked := time.Now()
	for _, tt := range []struct {
		name             string
		monotonic, moved time.Duration
		want             time.Duration
	}{
		{"no jump", 3 * time.Second, 0, 3 * time.Second},
		{"at once", 0, 0, 0},
		{"clock set forward", 3 * time.Second, time.Hour, time.Hour + 3*time.Second},
		{"clock set back", 3 * time.Second, -time.Hour, 3 * time.Second},
		{"slept, only the wall clock went on", 0, 8 * time.Hour, 8 * time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var f replica.Freshness
			f.Mark(marked)
			if got := f.Age(withWall(t, marked.Add(tt.monotonic), tt.moved)); got != tt.want {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}

func TestFreshnessOnlyGoesForward(t *testing.T) {
	var f replica.Freshness
	start := time.Now()
	if f.Age(start) != 0 || f.Reached(time.Time{}) {
		t.Error("something is known before the first mark")
	}
	f.Mark(start.Add(time.Second))
	f.Mark(start) // an answer that was overtaken
	if got := f.Age(start.Add(3 * time.Second)); got != 2*time.Second {
		t.Errorf("age %v, want that of the later read", got)
	}
	if !f.Reached(start.Add(time.Second)) || f.Reached(start.Add(time.Second+1)) || !f.Reached(time.Time{}) {
		t.Error("reached is not up to the latest mark, and no further")
	}
	if got := f.Age(start); got != 0 {
		t.Errorf("age %v before the mark", got)
	}
}

func TestFreshnessOfManyMarksIsTheLatest(t *testing.T) {
	var f replica.Freshness
	start := time.Now()
	var markers sync.WaitGroup
	for i := range 8 {
		markers.Go(func() {
			last := time.Duration(0)
			for n := range 1000 {
				f.Mark(start.Add(time.Duration(n*8+i) * time.Millisecond))
				age := f.Age(start.Add(time.Hour))
				if last != 0 && age > last {
					t.Errorf("it got older, from %v to %v", last, age)
				}
				last = age
			}
		})
	}
	markers.Wait()
	if got, want := f.Age(start.Add(8*time.Second)), time.Millisecond; got != want {
		t.Errorf("age %v, want %v", got, want)
	}
}
