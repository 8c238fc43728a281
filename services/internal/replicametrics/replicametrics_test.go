package replicametrics

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/testkit/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// values returns a registry's metrics, without zeros and positions of partitions.
func values(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			name := strings.TrimPrefix(family.GetName(), "countersign_")
			for _, label := range m.GetLabel() {
				name += " " + label.GetValue()
			}
			if value := m.GetGauge().GetValue() + m.GetCounter().GetValue(); value != 0 && !strings.HasPrefix(name, "partition_") {
				all[name] = value
			}
		}
	}
	return all
}

// TestMetricsTellWhatHappens: each failure shows in its metric.
func TestMetricsTellWhatHappens(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(s *storetest.Store)
		want map[string]float64
	}{
		{"nothing", func(*storetest.Store) {}, nil},
		{
			"a hint", func(s *storetest.Store) { s.Commit(s.App(1, 0), storetest.AddToken("b")) },
			map[string]float64{"hints_total applied": 1},
		},
		{"a lost hint", func(s *storetest.Store) {
			s.Fail(storetest.Faults{Hint: func(int, []byte) [][]byte { return nil }})
			s.Commit(s.App(1, 0), storetest.AddToken("b"))
		}, map[string]float64{"catch_ups_total": 1}},
		{"a forged hint", func(s *storetest.Store) {
			s.Fail(storetest.Faults{Hint: func(int, []byte) [][]byte { return [][]byte{[]byte("forged")} }})
			s.Commit(s.App(1, 0), storetest.AddToken("b"))
		}, map[string]float64{"hints_total bad": 1, "quarantined_records_total bad": 1, "catch_ups_total": 1}},
		{"a trimmed log", func(s *storetest.Store) {
			s.Fail(storetest.Faults{Hint: func(int, []byte) [][]byte { return nil }})
			for range 3 {
				s.Commit(s.App(1, 0), storetest.AddToken("b"), storetest.Remove("b"))
			}
			s.Trim(1, 1)
		}, map[string]float64{"resyncs_total gap": 1}},
		{
			"a missing head", func(s *storetest.Store) { s.SetHead(1, nil) },
			map[string]float64{"forks_total": 1, "forked_partitions": 1, "partitions STALE": 1},
		},
		{"a store of before", func(s *storetest.Store) {
			before := s.Save()
			s.Commit(s.App(1, 0), storetest.AddToken("b"))
			time.Sleep(time.Second)
			s.RollBack(before)
		}, map[string]float64{"forks_total": 1, "forked_partitions": 1, "hints_total applied": 1}},
		{"a lost app", func(s *storetest.Store) {
			before := s.Save()
			s.Commit(s.App(1, 5), storetest.AddToken("b"))
			time.Sleep(time.Second)
			s.RollBack(before)
			s.NewEpoch(1)
		}, map[string]float64{
			"missing_apps": 1, "forks_total": 0, "resyncs_total epoch": 1, "hints_total applied": 1,
			"orphaned_changes": 1,
		}},
		{"a new epoch", func(s *storetest.Store) { s.NewEpoch(1) }, map[string]float64{"resyncs_total epoch": 1}},
		{
			"an outage", func(s *storetest.Store) { s.Fail(storetest.Faults{Down: errors.New("down")}) },
			map[string]float64{"partitions STALE": 2},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := storetest.New(t, 2)
				s.Commit(s.App(1, 0), storetest.AddToken("a"))
				r := replica.New(s, s.Codec(), slog.New(slog.DiscardHandler))
				registry := prometheus.NewRegistry()
				registry.MustRegister(New(func() *replica.Replica { return r }))
				runFor(t, r, func() {
					before := values(t, registry)
					tt.do(s)
					time.Sleep(5 * time.Second)
					got := values(t, registry)
					for name, want := range tt.want {
						if got[name]-before[name] < want || !strings.HasPrefix(name, "catch_ups") && got[name]-before[name] > want {
							t.Errorf("%s rose from %v to %v, want by %v", name, before[name], got[name], want)
						}
					}
					if tt.want == nil && (got["partitions FRESH"] != 2 || got["resyncs_total start"] != 2 || got["data_age_seconds"] > 1) {
						t.Errorf("in good health: %v", got)
					}
				})
			})
		})
	}
}

func runFor(t *testing.T, r *replica.Replica, f func()) {
	t.Helper()
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { done <- r.Run(ctx) }()
	defer func() {
		cancel()
		<-done
	}()
	if err := r.WaitLoaded(ctx); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	f()
}

// TestMetricsAreWellFormed by the rules of Prometheus, and docs/operations.md says what to do about each.
func TestMetricsAreWellFormed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.New(t, 2)
		r := replica.New(s, s.Codec(), slog.New(slog.DiscardHandler))
		var current *replica.Replica
		registry := prometheus.NewRegistry()
		registry.MustRegister(New(func() *replica.Replica { return current }))
		if got := testutil.ToFloat64(New(func() *replica.Replica { return nil })); got != 0 {
			t.Errorf("without a store the age of the data is %v", got)
		}
		current = r
		runFor(t, r, func() {
			problems, err := testutil.GatherAndLint(registry)
			if err != nil || len(problems) > 0 {
				t.Errorf("%v, %v", problems, err)
			}
		})
	})
	page, err := os.ReadFile("../../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	descriptions := make(chan *prometheus.Desc, 100)
	New(nil).Describe(descriptions)
	close(descriptions)
	for d := range descriptions {
		if name := regexp.MustCompile(`fqName: "(\w+)"`).FindStringSubmatch(d.String())[1]; !strings.Contains(string(page),
			"`"+name) {
			t.Errorf("docs/operations.md does not say what to do about %s", name)
		}
	}
}
