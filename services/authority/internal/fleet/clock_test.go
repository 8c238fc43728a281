package fleet

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/testkit/storetest"
)

// TestClockIsThatOfTheLeastDelayedReport: delayed reports do not make a right clock look wrong. After a clock
// was set, the first report judges it.
func TestClockIsThatOfTheLeastDelayedReport(t *testing.T) {
	// sample is a report that arrives at a time after a delay, from a clock with a lead.
	type sample struct{ at, delay, ahead time.Duration }
	const ms = time.Millisecond
	start := time.Now()
	for _, tt := range []struct {
		name    string
		samples []sample
		want    time.Duration
		known   bool
	}{
		{"nothing was heard", nil, 0, false},
		{"one report", []sample{{0, 3 * ms, 0}}, -3 * ms, true},
		{"one that was delayed", []sample{{0, 3 * ms, 0}, {1000 * ms, 900 * ms, 0}}, -3 * ms, true},
		{"the first was delayed", []sample{{0, 900 * ms, 0}, {1000 * ms, 3 * ms, 0}}, -3 * ms, true},
		{"five minutes ahead", []sample{{0, 3 * ms, 5 * time.Minute}}, 5*time.Minute - 3*ms, true},
		{"set back", []sample{{0, 0, 0}, {1000 * ms, 5 * ms, -5 * time.Minute}}, -5*time.Minute - 5*ms, true},
		{"set forward", []sample{{0, 0, 0}, {1000 * ms, 5 * ms, 5 * time.Minute}}, 5*time.Minute - 5*ms, true},
		{"set back and forward", []sample{{0, 0, 0}, {1000 * ms, 0, -time.Hour}, {2000 * ms, 2 * ms, 0}}, -2 * ms, true},
		{"the way has got longer", []sample{{0, 0, 0}, {6000 * ms, 80 * ms, 0}, {12000 * ms, 80 * ms, 0}}, -80 * ms, true},
		{
			"the best of a span counts in the next",
			[]sample{{0, ms, 0}, {4900 * ms, 2 * ms, 0}, {5100 * ms, 70 * ms, 0}},
			-ms,
			true,
		},
		{"one that was overtaken", []sample{{0, 0, 0}, {10 * ms, 100 * ms, -time.Hour}}, 0, true},
	} {
		var c clock
		for _, s := range tt.samples {
			made := start.Add(s.at - s.delay)
			c.read(record.Clock{Wall: made.Round(0).Add(s.ahead), Monotonic: time.Hour + s.at - s.delay}, start.Add(s.at))
		}
		if got, known := c.skew(); got != tt.want || known != tt.known {
			t.Errorf("%s: %v, known %v; want %v, %v", tt.name, got, known, tt.want, tt.known)
		}
	}
}

// TestB08_SkewCountsUntilTheTimeHasComeEverywhere: a validator with a wrong clock has not applied a change
// with a time, until the time has come on every clock.
func TestB08_SkewCountsUntilTheTimeHasComeEverywhere(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct {
		name   string
		ahead  time.Duration
		turn   time.Duration // from now; 0 is none
		silent bool
		want   State
	}{
		{"right", 0, time.Minute, false, Applied},
		{"a second ahead", time.Second, time.Minute, false, Applied},
		{"over a second ahead", time.Second + 1, time.Minute, false, Skewed},
		{"over a second behind", -time.Second - 1, time.Minute, false, Skewed},
		{"no time in the change", -5 * time.Minute, 0, false, Applied},
		{"ahead, the time is over", 5 * time.Minute, -1, false, Applied},
		{"behind, the time is over here", -5 * time.Minute, -1, false, Skewed},
		{"behind, the time is nearly over there", -5 * time.Minute, -5*time.Minute + 1, false, Skewed},
		{"behind, the time is over there", -5 * time.Minute, -5 * time.Minute, false, Applied},
		{"silent", 5 * time.Minute, time.Hour, true, Skewed},
	} {
		c := clock{latest: record.Clock{Wall: now}, best: [2]time.Duration{tt.ahead}, known: [2]bool{true}}
		var turn time.Time
		if tt.turn != 0 {
			turn = now.Add(tt.turn)
		}
		if got := c.state(turn, now, tt.silent); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
	// While the skew is unknown, so is whether the time has come there.
	told := clock{latest: record.Clock{Wall: now}}
	for _, turn := range []time.Time{now.Add(1), now.Add(-time.Minute)} {
		if got := told.state(turn, now, false); got != Pending {
			t.Errorf("not measured yet, %s: %d", turn.Sub(now), got)
		}
		if got := told.state(turn, now, true); got != Lost {
			t.Errorf("not measured, and silent, %s: %d", turn.Sub(now), got)
		}
	}
	if got := told.state(time.Time{}, now, false); got != Applied {
		t.Errorf("not measured, and no time in the change: %d", got)
	}
	if got := (&clock{}).state(now.Add(1), now, false); got != Applied {
		t.Errorf("one that does not tell its time: %d", got)
	}
}

// TestLastTurn: the latest time at which the effect of a change changes.
func TestLastTurn(t *testing.T) {
	token := func(state policy.State, expires int64) record.Token {
		token := storetest.Token("t", "t", 1)
		token.State, token.ExpireMillis = state, expires
		return token
	}
	for name, tt := range map[string]struct {
		link record.Link
		want int64
	}{
		"nothing":     {record.Link{}, 0},
		"B08 expires": {record.Link{Upserts: []record.Token{token(policy.Active, 5), token(policy.Active, 3)}}, 5},
		"B08 ended by state": {
			record.Link{Upserts: []record.Token{token(policy.Disabled, 5), token(policy.Revoked, 5)}},
			0,
		},
		"B17 trial":              {record.Link{Enforcement: policy.Enforcement{Scopes: 1, TrialEndMillis: 7}}, 7},
		"B17 trial of no effect": {record.Link{Enforcement: policy.Enforcement{Scopes: 1, After: 1, TrialEndMillis: 7}}, 0},
		"B17 trial, and expires": {record.Link{
			Upserts:     []record.Token{token(policy.Active, 5)},
			Enforcement: policy.Enforcement{Scopes: 1, TrialEndMillis: 4},
		}, 5},
		"enforcement without an end": {record.Link{Enforcement: policy.Enforcement{Scopes: 1}}, 0},
	} {
		if got := tt.link.LastTurn(); got != tt.want {
			t.Errorf("%s: %d, want %d", name, got, tt.want)
		}
	}
}

// TestB24_EveryAuthorityKnowsTheClock: every authority measures every validator's clock against its own, also
// when it has just started, and when the validator reports to another authority. Until then, no receipt of a
// change that may have a time is complete.
func TestB24_EveryAuthorityKnowsTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		a := f.authority()
		v := f.validator("v", 0)
		v.ahead = -5 * time.Minute
		v.mustJoin(a, first())
		alive(t, 3*time.Second, v)
		time.Sleep(2 * publishInterval) // the news of it are told
		b := f.authority()
		result := b.wait(at(1, 1), 500*time.Millisecond)
		if r, _, _ := result(); r.Complete || statesOf(r)["v"] != Pending {
			t.Errorf("before it was heard: %+v", r)
		}
		alive(t, time.Second, v)
		time.Sleep(publishInterval)
		for _, authority := range []*authority{a, b} {
			if skew := authority.List()[0].GetClockSkew(); skew == nil ||
				(skew.AsDuration()+5*time.Minute).Abs() > 2*publishInterval {
				t.Errorf("listed as %v ahead", skew)
			}
			r, _, _ := authority.wait(at(1, 1), time.Second)()
			if e := r.Entries[0]; r.Complete || e.State != Skewed || e.Skew == nil {
				t.Errorf("%+v", r)
			}
		}
		result = b.wait(at(1, 1), time.Minute)
		v.ahead = 0
		alive(t, time.Second, v)
		if r, took, _ := result(); !r.Complete || took > time.Second+sweepInterval+publishInterval {
			t.Errorf("%v after its clock was set: %+v", took, r)
		}
	})
}

// TestB08_ARecordOfTheHashTellsThatAClockWasSet: an authority that misses all news learns from the hash that
// a validator has a change. The record also shows that the validator's clock was set. So the skew is unknown
// until an undelayed report arrives.
func TestB08_ARecordOfTheHashTellsThatAClockWasSet(t *testing.T) {
	for _, ahead := range []time.Duration{5 * time.Minute, -5 * time.Minute, 0} {
		t.Run(ahead.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				a, b := f.authority(), f.authority()
				v := f.validator("v", 0)
				v.ahead = time.Millisecond // it tells its time
				v.mustJoin(a, first())
				alive(t, 2*time.Second, v)
				result := b.wait(at(1, 1), time.Second)
				if r, _, _ := result(); !r.Complete {
					t.Errorf("before: %+v", r)
				}
				deaf := func(is bool) {
					f.shared.mu.Lock()
					defer f.shared.mu.Unlock()
					f.shared.deaf = is
				}
				deaf(true)
				b.past.move(0, at(1, 2))
				time.Sleep(time.Millisecond)
				v.ahead += ahead
				_ = v.report(to(at(1, 2)))
				time.Sleep(2*exchangeInterval + publishInterval)
				synctest.Wait()
				if got := b.cursor("v", 0); got != at(1, 2) {
					t.Fatalf("without news: %v", got)
				}
				want := Pending
				if ahead == 0 {
					want = Applied
				}
				if r, _, _ := b.wait(at(1, 2), 0)(); statesOf(r)["v"] != want {
					t.Errorf("want %d: %+v", want, r)
				}
				deaf(false)
				alive(t, time.Second, v)
				time.Sleep(publishInterval)
				if ahead != 0 {
					want = Skewed
				}
				if r, _, _ := b.wait(at(1, 2), 0)(); statesOf(r)["v"] != want {
					t.Errorf("heard again, want %d: %+v", want, r)
				}
			})
		})
	}
}
