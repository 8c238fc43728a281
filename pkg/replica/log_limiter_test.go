package replica

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestLogLimiter: a message is logged at once, and then once in logInterval with the number of omitted
// lines. It does not delay other messages.
func TestLogLimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := slog.New(slog.NewTextHandler(&out, nil))
		var l logLimiter
		for range 20_000 {
			l.error(log, "hint does not verify")
		}
		l.warn(log, "subscription lost")
		if lines := strings.Count(out.String(), "\n"); lines != 2 {
			t.Errorf("%d lines:\n%s", lines, out.String())
		}
		time.Sleep(logInterval)
		l.error(log, "hint does not verify")
		if !strings.Contains(out.String(), "omitted=19999") {
			t.Errorf("the number of omitted lines is not logged:\n%s", out.String())
		}
	})
}
