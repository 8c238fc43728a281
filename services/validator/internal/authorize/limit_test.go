package authorize

import (
	"runtime"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/pkg/apierr"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// TestOverloadIsNoDecision: beyond the bound every call gets RESOURCE_EXHAUSTED, and none is denied or
// allowed. Calls are answered again when fewer are in flight.
func TestOverloadIsNoDecision(t *testing.T) {
	w := startWorld(t)
	connections, open := 0, 0
	w.service.limit.Bound = Bound{
		MostInFlight: 50, AtRest: runtime.NumGoroutine(),
		Connections: func() int { return connections }, OpenGoroutines: func() int { return open },
	}
	ask := func() error { _, err := w.service.call(t.Context(), w.request()); return err }
	if err := ask(); err != nil {
		t.Fatalf("below the bound: %v", err)
	}
	stop := make(chan struct{})
	var others sync.WaitGroup
	for range 100 {
		others.Go(func() { <-stop })
	}
	for range 10 {
		if err := ask(); status.Code(err) != codes.ResourceExhausted || apierr.ReasonOf(err) != apierr.Overloaded {
			t.Errorf("past the bound: %v", err)
		}
	}
	// Idle goroutines do not count.
	for name, count := range map[string]func(n int){
		"health watches":              func(n int) { open += 2 * n },
		"connections":                 func(n int) { connections += n },
		"streams":                     func(n int) { w.service.limit.streams.Add(int64(n)) },
		"requests that have not come": func(n int) { shards[0].count.Add(2 * int64(n)) },
	} {
		count(30)
		if err := ask(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		count(-30)
	}
	close(stop)
	others.Wait()
	for runtime.NumGoroutine() > w.service.limit.AtRest+50 {
		runtime.Gosched()
	}
	if err := ask(); err != nil {
		t.Errorf("below it again: %v", err)
	}
	if got := testutil.ToFloat64(w.service.counters.undecided.WithLabelValues(apierr.Overloaded)); got != 10 {
		t.Errorf("%v refusals are counted", got)
	}
	if got := samples(t, w.registry); got != 6 {
		t.Errorf("%d calls were timed, want those that were answered", got)
	}
	w.service.limit.Bound = Bound{}
	if _, err := w.service.call(
		t.Context(), &countersignv1.AuthorizeRequest{AppId: w.app, Scope: countersignv1.Scope_SCOPE_EVENTS},
	); err != nil {
		t.Errorf("without a bound: %v", err)
	}
}

// samples returns how many calls the histogram of latencies has counted.
func samples(t *testing.T, registry *prometheus.Registry) uint64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == "countersign_authorize_duration_seconds" {
			return family.GetMetric()[0].GetHistogram().GetSampleCount()
		}
	}
	return 0
}
