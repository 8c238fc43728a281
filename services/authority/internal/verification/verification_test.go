package verification

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/countersign/countersign/pkg/replica"
)

// fake is a store whose partitions the test sets.
type fake struct {
	mu       sync.Mutex
	apps     map[int][]string
	errs     map[int]error
	wrong    map[int][]string
	verified []int
	at       []time.Time
}

func (f *fake) Verify(_ context.Context, partition int) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.verified, f.at = append(f.verified, partition), append(f.at, time.Now())
	return f.apps[partition], f.errs[partition]
}

func (f *fake) keys(_ context.Context, partition int) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.wrong[partition], nil
}

// TestOnePartitionInEachInterval: each interval verifies the next partition, whatever it finds. Damage is
// logged and counted, and a repaired partition counts no longer.
func TestOnePartitionInEachInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{
			apps:  map[int][]string{1: {"shop"}},
			errs:  map[int]error{2: fmt.Errorf("%w: two are missing", replica.ErrUnproven), 3: errors.New("down")},
			wrong: map[int][]string{4: {"cs:{cs04}:audit: is a list and should be a stream"}},
		}
		var text strings.Builder
		metrics := NewMetrics(prometheus.NewRegistry())
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		began := time.Now()
		go func() {
			ended <- Run(ctx, f, f.keys, 5, time.Minute, metrics, slog.New(slog.NewTextHandler(&text, nil)))
		}()
		want := func(ok, damaged, failed, now float64) {
			t.Helper()
			for result, n := range map[string]float64{"ok": ok, "damaged": damaged, "failed": failed} {
				if got := testutil.ToFloat64(metrics.done.WithLabelValues(result)); got != n {
					t.Errorf("%s: %v, want %v", result, got, n)
				}
			}
			if got := testutil.ToFloat64(metrics.damaged); got != now {
				t.Errorf("%v damaged partitions, want %v", got, now)
			}
		}
		time.Sleep(5*time.Minute + time.Second)
		synctest.Wait()
		want(1, 3, 1, 3)
		for _, said := range []string{"apps=[shop]", "two are missing", "cs:{cs04}:audit: is a list"} {
			if !strings.Contains(text.String(), said) {
				t.Errorf("the log does not say %s:\n%s", said, &text)
			}
		}
		f.mu.Lock()
		f.apps, f.errs, f.wrong = nil, map[int]error{2: errors.New("down")}, nil
		f.mu.Unlock()
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		want(5, 3, 2, 1) // of the one that cannot be read nothing new is known
		for i, at := range f.at {
			if f.verified[i] != i%5 || at.Sub(began) != time.Duration(i+1)*time.Minute {
				t.Errorf("look %d was at partition %d after %v", i, f.verified[i], at.Sub(began))
			}
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// TestVerificationIsOff: an interval of 0 verifies nothing.
func TestVerificationIsOff(t *testing.T) {
	f := &fake{}
	if err := Run(t.Context(), f, f.keys, 5, 0, nil, nil); err != nil || len(f.verified) > 0 {
		t.Errorf("%v, %v", f.verified, err)
	}
}
