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
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	const second, minute, hour = time.Second, time.Minute, time.Hour
	member := func(changes ...func(*readiness.Validator)) []readiness.Validator {
		v := readiness.Validator{ID: "v1", InstanceID: "i1", Start: ago(hour), ClockKnown: true, Heard: now, Live: true}
		for _, change := range changes {
			change(&v)
		}
		return []readiness.Validator{v}
	}
	ahead := func(d time.Duration) func(*readiness.Validator) {
		return func(v *readiness.Validator) { v.Ahead = d }
	}
	silent := func(since time.Duration) func(*readiness.Validator) {
		return func(v *readiness.Validator) { v.Live, v.Heard = false, ago(since) }
	}
	covered := func(instance string, start, until time.Duration, changes ...func(*ledger.Coverage)) ledger.Coverage {
		c := ledger.Coverage{ValidatorID: "v1", InstanceID: instance, Start: ago(start), Until: ago(until), Heard: ago(until)}
		for _, change := range changes {
			change(&c)
		}
		return c
	}
	final := func(c *ledger.Coverage) { c.Final = true }
	heard := func(d time.Duration) func(*ledger.Coverage) {
		return func(c *ledger.Coverage) { c.Heard = ago(d) }
	}
	dropped := func(until time.Duration) func(*ledger.Coverage) {
		return func(c *ledger.Coverage) { c.Dropped, c.DroppedUntil = 1234, ago(until) }
	}
	nothing := func(c *ledger.Coverage) { c.Until = time.Time{} }
	complete := covered("i1", hour, second)
	for _, tt := range []struct {
		name       string
		validators []readiness.Validator
		coverage   []ledger.Coverage
		since      time.Time
		counted    ledger.Counted
		want       [][]string
	}{
		{name: "no validators at all"},
		{name: "complete to 15 s ago", validators: member(), coverage: []ledger.Coverage{covered("i1", hour, 15*second)}},
		{name: "complete to 30 s ago", validators: member(), coverage: []ledger.Coverage{covered("i1", hour, 30*second)}},
		{
			name: "complete to 31 s ago", validators: member(), coverage: []ledger.Coverage{covered("i1", hour, 31*second)},
			want: [][]string{{"validator v1 has handed counts up only to"}},
		},
		{
			name: "its clock is ahead", validators: member(ahead(2 * minute)),
			coverage: []ledger.Coverage{covered("i1", hour, -minute)},
			want:     [][]string{{"validator v1 has handed counts up only to"}},
		},
		{
			name: "its clock is behind", validators: member(ahead(-50 * second)),
			coverage: []ledger.Coverage{covered("i1", hour, minute)},
		},
		{
			name: "never, and a member for an hour", validators: member(),
			want: [][]string{{"validator v1 has handed no counts up since it was started"}},
		},
		{
			name: "an earlier release, and a member for an hour", validators: member(),
			coverage: []ledger.Coverage{covered("i1", hour, second, nothing)},
			want:     [][]string{{"validator v1 has handed no counts up since it was started"}},
		},
		{
			name:       "never, and a member for 20 s",
			validators: member(func(v *readiness.Validator) { v.Start = ago(20 * second) }),
		},
		{name: "left", coverage: []ledger.Coverage{covered("i1", 2*hour, hour, final)}},
		{
			name: "left, and its member record is not gone yet", validators: member(silent(hour)),
			coverage: []ledger.Coverage{covered("i1", 2*hour, hour, final)},
		},
		{
			name: "does not report, and may still decide", validators: member(silent(hour)),
			coverage: []ledger.Coverage{covered("i1", 2*hour, hour)},
			want:     [][]string{{"validator v1 has not reported since", "may still decide", "forget it"}},
		},
		{
			name: "has not reported since before the window, and may still decide", validators: member(silent(40 * hour)),
			coverage: []ledger.Coverage{covered("i1", 50*hour, 40*hour)},
			want:     [][]string{{"validator v1 has not reported since", "may still decide"}},
		},
		{
			name: "its id is another process's too", coverage: []ledger.Coverage{complete},
			validators: member(func(v *readiness.Validator) { v.Contested = true }),
			want:       [][]string{{"validator v1 is the id of another process too"}},
		},
		{
			name:       "does not report, and had stopped answering before the window",
			coverage:   []ledger.Coverage{covered("i1", 50*hour, 40*hour)},
			validators: member(silent(40*hour), func(v *readiness.Validator) { v.FencedAfter = hour }),
		},
		{
			name:       "does not report, and stopped answering in the window",
			coverage:   []ledger.Coverage{covered("i1", 50*hour, 25*hour)},
			validators: member(silent(25*hour), func(v *readiness.Validator) { v.FencedAfter = 2 * hour }),
			want:       [][]string{{"validator v1 has not reported since"}},
		},
		{
			name:       "cut off before the window, and forgotten in it",
			coverage:   []ledger.Coverage{covered("i1", 50*hour, 40*hour)},
			validators: member(silent(hour), func(v *readiness.Validator) { v.Gone = true }),
			want:       [][]string{{"validator v1 ended without its last counts"}},
		},
		{
			name:       "cut off and forgotten before the window",
			coverage:   []ledger.Coverage{covered("i1", 50*hour, 40*hour)},
			validators: member(silent(30*hour), func(v *readiness.Validator) { v.Gone = true }),
		},
		{
			name: "killed before it handed anything up", validators: member(silent(hour)),
			want: [][]string{{"validator v1 has not reported since", "its requests since"}},
		},
		{
			name: "killed in the window, and forgotten", coverage: []ledger.Coverage{covered("i0", 30*hour, 20*hour)},
			want: [][]string{{"validator v1 ended without its last counts", "are missing"}},
		},
		{name: "killed before the window, and forgotten", coverage: []ledger.Coverage{covered("i0", 30*hour, 25*hour)}},
		{
			name:     "cut off before the window, and killed in it",
			coverage: []ledger.Coverage{covered("i0", 40*hour, 30*hour, heard(hour))},
			want:     [][]string{{"validator v1 ended without its last counts"}},
		},
		{
			name: "killed, and started again", validators: member(),
			coverage: []ledger.Coverage{covered("i0", 5*hour, 2*hour), complete},
			want:     [][]string{{"validator v1 ended without its last counts"}},
		},
		{
			name: "cut off before the window, and started again in it", validators: member(),
			coverage: []ledger.Coverage{covered("i0", 50*hour, 30*hour), complete},
			want:     [][]string{{"validator v1 ended without its last counts"}},
		},
		{
			name:       "the same, and the new start has handed nothing up yet",
			validators: member(func(v *readiness.Validator) { v.Start = ago(20 * second) }),
			coverage:   []ledger.Coverage{covered("i0", 50*hour, 30*hour)},
			want:       [][]string{{"validator v1 ended without its last counts"}},
		},
		{
			name: "killed and started again before the window", validators: member(),
			coverage: []ledger.Coverage{
				covered("i0", 50*hour, 30*hour), covered("i3", 29*hour, 2*hour, final), complete,
			},
		},
		{
			name: "an earlier release, which ended in the window", validators: member(),
			coverage: []ledger.Coverage{covered("i0", 50*hour, 50*hour, nothing), complete},
			want:     [][]string{{"validator v1 ended without its last counts"}},
		},
		{
			name: "dropped", validators: member(), coverage: []ledger.Coverage{covered("i1", hour, second, dropped(minute))},
			want: [][]string{{"validator v1 dropped the counts of 1,234 requests"}},
		},
		{
			name: "dropped before the window", validators: member(),
			coverage: []ledger.Coverage{covered("i1", 50*hour, second, dropped(25*hour))},
		},
		{
			name: "dropped, and does not say when", validators: member(),
			coverage: []ledger.Coverage{covered("i1", 50*hour, second, func(c *ledger.Coverage) { c.Dropped = 1 })},
			want:     [][]string{{"validator v1 dropped the counts of 1 request,"}},
		},
		{
			name: "dropped, and left in the window", coverage: []ledger.Coverage{covered("i1", 5*hour, hour, dropped(2*hour), final)},
			want: [][]string{{"validator v1 dropped the counts of 1,234 requests"}},
		},
		{
			name: "several, by name",
			validators: append(member(func(v *readiness.Validator) { v.ID, v.InstanceID = "v3", "i3" }),
				member(func(v *readiness.Validator) { v.ID, v.InstanceID = "v2", "i2" })...),
			want: [][]string{{"validator v2 "}, {"validator v3 "}},
		},
		{name: "the counts begin before the window", since: ago(25 * hour), counted: ledger.Counted{Since: ago(25 * hour)}},
		{
			name: "Redis was emptied", since: ago(hour), counted: ledger.Counted{Since: ago(hour)},
			want: [][]string{{"the counts begin at", "earlier requests are missing"}},
		},
		{
			name: "the counts of some partitions were lost", since: ago(hour), counted: ledger.Counted{Since: ago(minute)},
			want: [][]string{{"the counts begin at"}, {"the counts begin at"}},
		},
		{
			name: "the counts of the app's partition were lost", counted: ledger.Counted{Since: ago(minute)},
			want: [][]string{{"the counts begin at"}},
		},
		{
			name: "the counts of the app are damaged", counted: ledger.Counted{Damaged: true},
			want: [][]string{{"stored counts of the app are damaged"}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := input(document(0, token("a", events)), sum("a", events, policy.TokenValid, 1))
			fleet := readiness.Fleet{Validators: tt.validators, Coverage: tt.coverage, Since: tt.since}
			in.Missing = append(readiness.Missing(fleet, in.From, now), readiness.MissingOf(tt.counted, fleet, in.From)...)
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

// TestB21_NobodyRevokesForWantOfCounts: while counts are missing, a report advises nobody to revoke a token
// that looks unused.
func TestB21_NobodyRevokesForWantOfCounts(t *testing.T) {
	for _, tt := range []struct {
		missing []string
		advice  string
	}{
		{nil, "revoke it if nothing needs it"},
		{[]string{"validator v1 has handed no counts up"}, "counts are missing, so do not revoke anything for that"},
	} {
		in := input(document(0, token("a", events), token("b", events)), sum("a", events, policy.TokenValid, 1))
		in.Missing = tt.missing
		wantSentences(t, "warnings", readiness.Report(in).GetWarnings(), []string{"1 active token was not used", "`b`", tt.advice})
	}
}
