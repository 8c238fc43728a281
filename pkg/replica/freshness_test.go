package replica_test

import (
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/countersign/countersign/pkg/replica"
)

// withWall returns a time whose wall reading is shifted and whose monotonic reading is not. time.Now returns
// such a time after the clock was set, or after a sleep that only one of the clocks counts. There is no other
// way to make one (package time, Monotonic Clocks), so the test checks the representation by its effect.
func withWall(t *testing.T, at time.Time, moved time.Duration) time.Time {
	t.Helper()
	changed := at
	// With a monotonic reading, bits 30 to 62 of the first word hold the wall seconds.
	*(*uint64)(unsafe.Pointer(&changed)) += uint64(int64(moved/time.Second) << 30)
	if changed.Sub(at) != 0 || changed.Round(0).Sub(at.Round(0)) != moved {
		t.Fatalf("time.Time has another representation: %v became %v", at, changed)
	}
	return changed
}

// TestAgeIsTheLargerOfMonotonicAndWallTime, so that neither a clock that was set nor a machine that slept
// makes old data look fresh.
func TestAgeIsTheLargerOfMonotonicAndWallTime(t *testing.T) {
	marked := time.Now()
	for _, tt := range []struct {
		name             string
		monotonic, moved time.Duration
		want             time.Duration
		jumped           bool
	}{
		{"no jump", 3 * time.Second, 0, 3 * time.Second, false},
		{"at once", 0, 0, 0, false},
		{"clock set forward", 3 * time.Second, time.Hour, time.Hour + 3*time.Second, true},
		{"clock set back", 3 * time.Second, -time.Hour, 3 * time.Second, true},
		{"clock set forward by a second", 3 * time.Second, time.Second, 4 * time.Second, false},
		{"clock set back by a second", 3 * time.Second, -time.Second, 3 * time.Second, false},
		{"clock set forward by two", 0, 2 * time.Second, 2 * time.Second, true},
		{"slept, only the wall clock went on", 0, 8 * time.Hour, 8 * time.Hour, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var f replica.Freshness
			f.Mark(marked)
			now := withWall(t, marked.Add(tt.monotonic), tt.moved)
			if got, jumped := f.Age(now); got != tt.want || jumped != tt.jumped {
				t.Errorf("%v, jumped %v, want %v, %v", got, jumped, tt.want, tt.jumped)
			}
			f.Mark(now.Add(time.Millisecond))
			if got, jumped := f.Age(now.Add(2 * time.Millisecond)); got != time.Millisecond || jumped {
				t.Errorf("after a good read: %v, jumped %v", got, jumped)
			}
		})
	}
}

func TestFreshnessOnlyGoesForward(t *testing.T) {
	var f replica.Freshness
	start := time.Now()
	if age, _ := f.Age(start); age != 0 || f.Reached(time.Time{}) {
		t.Error("something is known before the first mark")
	}
	f.Mark(start.Add(time.Second))
	f.Mark(start) // an answer that arrived late
	if got, _ := f.Age(start.Add(3 * time.Second)); got != 2*time.Second {
		t.Errorf("age %v, want that of the later read", got)
	}
	if !f.Reached(start.Add(time.Second)) || f.Reached(start.Add(time.Second+1)) || !f.Reached(time.Time{}) {
		t.Error("reached is not up to the latest mark, and no further")
	}
	if got, _ := f.Age(start); got != 0 {
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
				age, _ := f.Age(start.Add(time.Hour))
				if last != 0 && age > last {
					t.Errorf("it got older, from %v to %v", last, age)
				}
				last = age
			}
		})
	}
	markers.Wait()
	if got, _ := f.Age(start.Add(8 * time.Second)); got != time.Millisecond {
		t.Errorf("age %v, want a millisecond", got)
	}
}

// TestAgeOfWhatWasKeptCountsByTheWallClock: two processes share no other clock.
func TestAgeOfWhatWasKeptCountsByTheWallClock(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct {
		verified time.Duration
		want     time.Duration
		jumped   bool
	}{
		{-time.Hour, time.Hour, false},
		{0, 0, false},
		{time.Hour, time.Hour, true}, // in the future: nobody knows how old it is
	} {
		var f replica.Freshness
		f.Recall(now.Add(tt.verified))
		if got, jumped := f.Age(now); got != tt.want || jumped != tt.jumped {
			t.Errorf("verified %v from now: age %v, jumped %v", tt.verified, got, jumped)
		}
		if !f.Reached(time.Time{}) || f.Reached(now.Add(-time.Minute)) {
			t.Error("it passes for what this process has seen")
		}
		f.Mark(now)
		if got, jumped := f.Age(now.Add(time.Second)); got != time.Second || jumped {
			t.Errorf("after a good read: %v, %v", got, jumped)
		}
	}
}
