package check

import (
	"testing"
	"time"
)

// Within fails the test when something took longer than its bound, in real time.
//
// Real time depends on the machine, so the bound is exact only with the build tag campaign, for a run on a
// quiet machine (make timing). Without the tag the limit is loose. It must be shorter than the next timeout
// of the product, so that a busy machine passes and a missing guard still fails.
func Within(t testing.TB, what string, took, bound, loose time.Duration) {
	t.Helper()
	if !exact {
		bound = max(bound, loose)
	}
	if took > bound {
		t.Errorf("%s took %v, want at most %v", what, took, bound)
	}
}
