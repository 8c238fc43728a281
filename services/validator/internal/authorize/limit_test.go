package authorize

import (
	"runtime"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/pkg/apierr"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// TestOverloadIsNoDecision: past the bound every call is RESOURCE_EXHAUSTED, none is denied or let through, and once there is
// room again they are answered.
func TestOverloadIsNoDecision(t *testing.T) {
	w := startWorld(t)
	w.service.limit = limit(runtime.NumGoroutine() + 50)
	ask := func() error { _, err := w.service.Authorize(t.Context(), w.request()); return err }
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
	close(stop)
	others.Wait()
	for runtime.NumGoroutine() > int(w.service.limit) {
		runtime.Gosched()
	}
	if err := ask(); err != nil {
		t.Errorf("below it again: %v", err)
	}
	if got := testutil.ToFloat64(w.service.counters.undecided.WithLabelValues(apierr.Overloaded)); got != 10 {
		t.Errorf("%v refusals are counted", got)
	}
	if got := testutil.CollectAndCount(w.service.counters.latency); got != 1 {
		t.Errorf("%d histograms of latency", got)
	}
	w.service.limit = 0
	if _, err := w.service.Authorize(t.Context(), &countersignv1.AuthorizeRequest{AppId: w.app, Scope: countersignv1.Scope_SCOPE_EVENTS}); err != nil {
		t.Errorf("without a bound: %v", err)
	}
}
