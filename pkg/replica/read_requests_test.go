package replica

import (
	"testing"
	"time"
)

// TestReadRequestsAreAnsweredByALaterRead: only a read that was sent after a request answers it.
func TestReadRequestsAreAnsweredByALaterRead(t *testing.T) {
	r := newReadRequests()
	want := func(when string, pending bool) {
		t.Helper()
		if r.pending() != pending {
			t.Errorf("%s: pending %t, want %t", when, !pending, pending)
		}
	}
	want("without a request", false)
	before := time.Now()
	time.Sleep(time.Microsecond)
	r.add()
	want("after a request", true)
	r.answer(before)
	want("after the answer to an earlier read", true)
	r.answer(time.Now())
	want("after the answer to a later read", false)
	r.answer(before)
	want("after an answer that came late", false)
	r.add()
	want("after another request", true)
}
