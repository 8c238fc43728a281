package fleet

import (
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/clockskew"
	"github.com/countersign/countersign/pkg/testkit/check"
)

// lines keeps the logged lines.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

func (l *lines) count(part string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), part)
}

// TestB08_ValidatorKnowsThatItsClockIsOff: a validator learns the authority's time, and logs once that its
// own differs.
func TestB08_ValidatorKnowsThatItsClockIsOff(t *testing.T) {
	var ahead atomic.Int64
	ahead.Store(int64(-5 * time.Minute))
	var log lines
	k := start(t, newAuthority(t), func(c *Config) {
		c.Log = slog.New(slog.NewTextHandler(&log, nil))
		c.WallClock = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	})
	is := func(want time.Duration) func() error {
		return func() error {
			got, known := k.reporter.ClockSkew()
			if !known || (got-want).Abs() > clockskew.Max {
				return errors.New(clockskew.Words(got))
			}
			return nil
		}
	}
	check.Eventually(t, "it knows that it is behind", is(-5*time.Minute))
	first := k.authority.all()[0].GetClock()
	if got := time.Until(first.GetWallTime().AsTime()); got > -4*time.Minute || first.GetMonotonicTime().AsDuration() < 0 {
		t.Errorf("the report says %v", first)
	}
	ahead.Store(0)
	check.Eventually(t, "it knows that it is right", is(0))
	ahead.Store(int64(time.Hour))
	check.Eventually(t, "it knows that it is ahead", is(time.Hour))
	if said, over := log.count("5m0s behind"), log.count("the authority's again"); said != 1 || over != 1 {
		t.Errorf("said %d times, and %d times that it is over", said, over)
	}
	if said := log.count("1h0m0s ahead"); said != 0 {
		t.Errorf("said again within a minute")
	}
}
