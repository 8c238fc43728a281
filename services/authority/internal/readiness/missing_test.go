package readiness_test

import (
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/services/authority/internal/ledger"
	"github.com/countersign/countersign/services/authority/internal/readiness"
)

// TestB21_Incomplete: the report names each validator of whose requests some are missing.
func TestB21_Incomplete(t *testing.T) {
	live := readiness.Validator{ID: "v1", InstanceID: "i1", Start: now.Add(-time.Hour), Heard: now, Live: true}
	covered := func(instance string, until time.Duration, change func(*ledger.Coverage)) ledger.Coverage {
		c := ledger.Coverage{ValidatorID: "v1", InstanceID: instance, Start: now.Add(-time.Hour), Until: now.Add(-until)}
		if change != nil {
			change(&c)
		}
		return c
	}
	final := func(c *ledger.Coverage) { c.Final = true }
	for _, tt := range []struct {
		name       string
		validators []readiness.Validator
		coverage   []ledger.Coverage
		want       [][]string
	}{
		{name: "no validators at all"},
		{
			name: "complete to 15 s ago", validators: []readiness.Validator{live},
			coverage: []ledger.Coverage{covered("i1", 15*time.Second, nil)},
		},
		{
			name: "complete to 30 s ago", validators: []readiness.Validator{live},
			coverage: []ledger.Coverage{covered("i1", 30*time.Second, nil)},
		},
		{
			name: "complete to 31 s ago", validators: []readiness.Validator{live},
			coverage: []ledger.Coverage{covered("i1", 31*time.Second, nil)},
			want:     [][]string{{"validator v1 has handed counts up only to"}},
		},
		{
			name: "its clock is ahead", coverage: []ledger.Coverage{covered("i1", -time.Minute, nil)},
			validators: []readiness.Validator{{
				ID: "v1", InstanceID: "i1", Start: now.Add(-time.Hour), Ahead: 2 * time.Minute, Live: true,
			}},
			want: [][]string{{"validator v1 has handed counts up only to"}},
		},
		{
			name: "its clock is behind", coverage: []ledger.Coverage{covered("i1", time.Minute, nil)},
			validators: []readiness.Validator{{
				ID: "v1", InstanceID: "i1", Start: now.Add(-time.Hour), Ahead: -50 * time.Second, Live: true,
			}},
		},
		{
			name: "never, and a member for an hour", validators: []readiness.Validator{live},
			want: [][]string{{"validator v1 has handed no counts up since it was started"}},
		},
		{
			name:       "never, and a member for 20 s",
			validators: []readiness.Validator{{ID: "v1", InstanceID: "i1", Start: now.Add(-20 * time.Second), Live: true}},
		},
		{
			name: "stopped", coverage: []ledger.Coverage{covered("i1", time.Hour, final)},
		},
		{
			name: "killed in the window", coverage: []ledger.Coverage{covered("i0", 20*time.Hour, nil)},
			want: [][]string{{"validator v1 ended at", "at most 15 s of its requests are missing"}},
		},
		{name: "killed before the window", coverage: []ledger.Coverage{covered("i0", 25*time.Hour, nil)}},
		{
			name: "killed, and started again", validators: []readiness.Validator{live},
			coverage: []ledger.Coverage{covered("i0", 2*time.Hour, nil), covered("i1", time.Second, nil)},
			want:     [][]string{{"validator v1 ended at"}},
		},
		{
			name:       "killed before it handed anything up",
			validators: []readiness.Validator{{ID: "v1", InstanceID: "i1", Start: now.Add(-time.Hour), Heard: now.Add(-time.Hour)}},
			want:       [][]string{{"validator v1 has not reported since", "its requests are missing"}},
		},
		{
			name: "dropped", validators: []readiness.Validator{live},
			coverage: []ledger.Coverage{covered("i1", time.Second, func(c *ledger.Coverage) { c.Dropped = 1234 })},
			want:     [][]string{{"validator v1 dropped the counts of 1,234 requests"}},
		},
		{
			name: "several, by name",
			validators: []readiness.Validator{
				{ID: "v3", InstanceID: "i3", Start: now.Add(-time.Hour), Live: true},
				{ID: "v2", InstanceID: "i2", Start: now.Add(-time.Hour), Live: true},
			},
			want: [][]string{{"validator v2 "}, {"validator v3 "}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := input(document(0, token("a", events)), sum("a", events, policy.TokenValid, 1))
			in.Fleet = readiness.Fleet{Validators: tt.validators, Coverage: tt.coverage}
			r := readiness.Report(in)
			wantSentences(t, "missing", r.GetMissing(), tt.want...)
			if want := tt.want != nil; want != (r.GetVerdict() == incomplete) {
				t.Errorf("the verdict is %v", r.GetVerdict())
			}
			in.Sums = append(in.Sums, sum("a", revenue, policy.ScopeNotGranted, 1))
			if r := readiness.Report(in); r.GetVerdict() != notReady || len(r.GetMissing()) != len(tt.want) {
				t.Errorf("with a blocker: %v, missing %q", r.GetVerdict(), r.GetMissing())
			}
		})
	}
}
