package clockskew

import (
	"testing"
	"time"
)

// TestSkewAlarm: an alarm warns at most once a minute, whatever the clock does.
func TestSkewAlarm(t *testing.T) {
	var a Alarm
	start := time.Now()
	for _, step := range []struct {
		after      time.Duration
		ahead      time.Duration
		warn, over bool
	}{
		{0, Max, false, false},
		{1, -Max, false, false},
		{2, Max + 1, true, false},
		{3, time.Hour, false, false},
		{4, 0, false, true},
		{5, 0, false, false},
		{6, -time.Hour, false, false},
		{7, 0, false, false},
		{pause + 2, -time.Hour, true, false},
	} {
		if warn, over := a.Check(step.ahead, start.Add(step.after)); warn != step.warn || over != step.over {
			t.Errorf("after %v: %t, %t", step.after, warn, over)
		}
	}
}

func TestSkewWords(t *testing.T) {
	for ahead, want := range map[time.Duration]string{
		0: "0s ahead", 1234567 * time.Microsecond: "1.235s ahead", -5*time.Minute + 3*time.Millisecond: "5m0s behind",
	} {
		if got := Words(ahead); got != want {
			t.Errorf("%d: %s, want %s", ahead, got, want)
		}
	}
}
