package authorize

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/validator"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// newService returns a service whose validator has found no store.
func newService(t *testing.T) (*Service, *prometheus.Registry) {
	t.Helper()
	v, err := validator.New(validator.Config{RedisURL: "redis://127.0.0.1:1/0", Ring: keyring.Generate()})
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	return New(v, Bound{}, registry), registry
}

// B20: requests without a decision are counted by reason, and never as decisions.
func TestB20_UndecidedIsCountedApart(t *testing.T) {
	s, registry := newService(t)
	for _, r := range []*countersignv1.AuthorizeRequest{
		{AppId: "a", Scope: countersignv1.Scope_SCOPE_EVENTS},
		{AppId: "a", Scope: countersignv1.Scope_SCOPE_EVENTS},
		{AppId: "no app", Scope: countersignv1.Scope_SCOPE_EVENTS},
	} {
		if _, err := s.call(t.Context(), r); err == nil {
			t.Fatal("a decision without data")
		}
	}
	want := `
# HELP countersign_undecided_total Requests without a decision, by reason: INVALID_FIELD, or why nothing could be decided.
# TYPE countersign_undecided_total counter
countersign_undecided_total{reason="INVALID_FIELD"} 1
countersign_undecided_total{reason="NOT_LOADED"} 2
# HELP countersign_ready 1 once all policies are loaded and proven, which they then stay.
# TYPE countersign_ready gauge
countersign_ready 0
`
	if err := testutil.GatherAndCompare(
		registry, strings.NewReader(want), "countersign_undecided_total", "countersign_ready",
	); err != nil {
		t.Error(err)
	}
}

// Every possible decision has a counter of its own, and counting does not allocate.
func TestDecisionsAreCounted(t *testing.T) {
	s, registry := newService(t)
	kinds := 0
	for number, known := range scopes {
		for reason := policy.AppNotConfigured; known && reason <= maxReason; reason++ {
			for _, allowed := range []bool{true, false} {
				kinds++
				s.counters.decided(policy.Scope(number), policy.Decision{Allow: allowed, Reason: reason})
			}
		}
	}
	if n := testutil.CollectAndCount(registry, "countersign_decisions_total"); n != kinds || n == 0 {
		t.Errorf("%d counters of %d kinds of decisions", n, kinds)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != "countersign_decisions_total" {
			continue
		}
		for _, m := range family.GetMetric() {
			if m.GetCounter().GetValue() != 1 {
				t.Errorf("counted otherwise than once: %v", m)
			}
		}
	}
	d := policy.Decision{Allow: true, Reason: policy.TokenValid}
	if n := testing.AllocsPerRun(100, func() { s.counters.decided(1, d) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
