package replica

import (
	"testing"
	"time"
)

// TestAsksAreAnsweredByALaterLook: whoever asked is answered by a look at the store that was sent
// afterwards, and by no other.
func TestAsksAreAnsweredByALaterLook(t *testing.T) {
	a := newAsks()
	want := func(what string, open bool) {
		t.Helper()
		if a.open() != open {
			t.Errorf("%s: open %t, want %t", what, !open, open)
		}
	}
	want("nobody asked", false)
	before := time.Now()
	time.Sleep(time.Microsecond)
	a.ask()
	want("asked", true)
	a.answer(before)
	want("a look from before", true)
	a.answer(time.Now())
	want("a look from after", false)
	a.answer(before)
	want("an answer that came late", false)
	a.ask()
	want("asked again", true)
}
