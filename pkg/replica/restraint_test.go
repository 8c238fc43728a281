package replica

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// What happens again and again is logged at once, then once in quietTime with the number of what was left
// out; another message is not held back by it.
func TestRestraint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := slog.New(slog.NewTextHandler(&out, nil))
		var r restraint
		for range 20_000 {
			r.error(log, "hint does not verify")
		}
		r.warn(log, "subscription lost")
		if lines := strings.Count(out.String(), "\n"); lines != 2 {
			t.Errorf("%d lines:\n%s", lines, out.String())
		}
		time.Sleep(quietTime)
		r.error(log, "hint does not verify")
		if !strings.Contains(out.String(), "omitted=19999") {
			t.Errorf("what was left out is not counted:\n%s", out.String())
		}
	})
}
