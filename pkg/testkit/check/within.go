package check

import (
	"testing"
	"time"
)

// Within fails the test when something took longer than its bound, in real time.
//
// Real time depends on the machine, so the bound is exact only with the build tag campaign, for a run on a
// quiet machine (make timing). Without the tag, 30 s more are allowed: then only a hang fails.
func Within(t testing.TB, what string, took, bound time.Duration) {
	t.Helper()
	if took > bound+slack {
		t.Errorf("%s took %v, want at most %v", what, took, bound)
	}
}
