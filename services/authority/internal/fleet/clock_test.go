package fleet

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/testkit/storetest"
)

// TestClockIsThatOfTheLeastDelayedReport: the skew comes from the report with the shortest delay, so delayed
// reports do not make a right clock look wrong. After a clock was set, the skew comes from the next report
// alone.
func TestClockIsThatOfTheLeastDelayedReport(t *testing.T) {
	// sample is a report: when it arrives, how long it was delayed, and how far the validator's clock is
	// ahead.
	type sample struct{ at, delay, ahead time.Duration }
	const ms = time.Millisecond
	start := time.Now()
	for _, tt := range []struct {
		name    string
		samples []sample
		want    time.Duration
		known   bool
	}{
		{"no report", nil, 0, false},
		{"one report", []sample{{0, 3 * ms, 0}}, -3 * ms, true},
		{"the second report has a longer delay", []sample{{0, 3 * ms, 0}, {1000 * ms, 900 * ms, 0}}, -3 * ms, true},
		{"the first report has a longer delay", []sample{{0, 900 * ms, 0}, {1000 * ms, 3 * ms, 0}}, -3 * ms, true},
		{"the clock is five minutes ahead", []sample{{0, 3 * ms, 5 * time.Minute}}, 5*time.Minute - 3*ms, true},
		{"set back by 5 min", []sample{{0, 0, 0}, {1000 * ms, 5 * ms, -5 * time.Minute}}, -5*time.Minute - 5*ms, true},
		{"set forward by 5 min", []sample{{0, 0, 0}, {1000 * ms, 5 * ms, 5 * time.Minute}}, 5*time.Minute - 5*ms, true},
		{"set back, then set right again", []sample{{0, 0, 0}, {1000 * ms, 0, -time.Hour}, {2000 * ms, 2 * ms, 0}}, -2 * ms, true},
		{"the delay has grown", []sample{{0, 0, 0}, {6000 * ms, 80 * ms, 0}, {12000 * ms, 80 * ms, 0}}, -80 * ms, true},
		{
			"the greatest lead of a span counts in the next span",
			[]sample{{0, ms, 0}, {4900 * ms, 2 * ms, 0}, {5100 * ms, 70 * ms, 0}},
			-ms,
			true,
		},
		{"an older report arrives after a newer one", []sample{{0, 0, 0}, {10 * ms, 100 * ms, -time.Hour}}, 0, true},
	} {
		var c clock
		for _, s := range tt.samples {
			made := start.Add(s.at - s.delay)
			c.read(record.Clock{Wall: made.Round(0).Add(s.ahead), Monotonic: time.Hour + s.at - s.delay}, start.Add(s.at))
		}
		if got, known := c.skew(); got != tt.want || known != tt.known {
			t.Errorf("%s: got skew %v, known %v; want %v, %v", tt.name, got, known, tt.want, tt.known)
		}
	}
}

// TestB08_SkewCountsUntilTheTimeHasComeEverywhere: a change may have a time, such as the end of a trial. A
// validator with a wrong clock has not applied such a change until the time has passed here and on its own
// clock.
func TestB08_SkewCountsUntilTheTimeHasComeEverywhere(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct {
		name   string
		ahead  time.Duration
		turn   time.Duration // time of the change, from now; 0 for none
		silent bool
		want   State
	}{
		{"the clock is right", 0, time.Minute, false, Applied},
		{"the clock is exactly a second ahead", time.Second, time.Minute, false, Applied},
		{"the clock is more than a second ahead", time.Second + 1, time.Minute, false, Skewed},
		{"the clock is more than a second behind", -time.Second - 1, time.Minute, false, Skewed},
		{"wrong clock, a change without a time", -5 * time.Minute, 0, false, Applied},
		{"clock ahead, the time has passed here and there", 5 * time.Minute, -1, false, Applied},
		{"clock behind, the time has passed here only", -5 * time.Minute, -1, false, Skewed},
		{"clock behind, the time has nearly passed there", -5 * time.Minute, -5*time.Minute + 1, false, Skewed},
		{"clock behind, the time has just passed there", -5 * time.Minute, -5 * time.Minute, false, Applied},
		{"wrong clock, the lease has expired", 5 * time.Minute, time.Hour, true, Skewed},
	} {
		c := clock{latest: record.Clock{Wall: now}, best: [2]time.Duration{tt.ahead}, known: [2]bool{true}}
		var turn time.Time
		if tt.turn != 0 {
			turn = now.Add(tt.turn)
		}
		if got := c.state(turn, now, tt.silent); got != tt.want {
			t.Errorf("%s: got state %d, want %d", tt.name, got, tt.want)
		}
	}
	// While the skew is unknown, the time may not have passed on the validator's clock.
	told := clock{latest: record.Clock{Wall: now}}
	for _, turn := range []time.Time{now.Add(1), now.Add(-time.Minute)} {
		if got := told.state(turn, now, false); got != Pending {
			t.Errorf("unknown skew, lease runs, time in %s: got state %d, want PENDING", turn.Sub(now), got)
		}
		if got := told.state(turn, now, true); got != Lost {
			t.Errorf("unknown skew, lease has expired, time in %s: got state %d, want LOST", turn.Sub(now), got)
		}
	}
	if got := told.state(time.Time{}, now, false); got != Applied {
		t.Errorf("unknown skew, change without a time: got state %d, want APPLIED", got)
	}
	if got := (&clock{}).state(now.Add(1), now, false); got != Applied {
		t.Errorf("a validator that sends no time: got state %d, want APPLIED", got)
	}
}

// TestLastTurn: LastTurn returns the last time at which the clock alone alters the effect of a change.
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
		"a link without changes": {record.Link{}, 0},
		"B08 two active tokens":  {record.Link{Upserts: []record.Token{token(policy.Active, 5), token(policy.Active, 3)}}, 5},
		"B08 disabled and revoked tokens expire": {
			record.Link{Upserts: []record.Token{token(policy.Disabled, 5), token(policy.Revoked, 5)}},
			0,
		},
		"B17 trial":                {record.Link{Enforcement: policy.Enforcement{Scopes: 1, TrialEndMillis: 7}}, 7},
		"B17 trial without effect": {record.Link{Enforcement: policy.Enforcement{Scopes: 1, After: 1, TrialEndMillis: 7}}, 0},
		"B17 trial ends before a token expires": {record.Link{
			Upserts:     []record.Token{token(policy.Active, 5)},
			Enforcement: policy.Enforcement{Scopes: 1, TrialEndMillis: 4},
		}, 5},
		"enforcement without a trial": {record.Link{Enforcement: policy.Enforcement{Scopes: 1}}, 0},
	} {
		if got := tt.link.LastTurn(); got != tt.want {
			t.Errorf("%s: %d, want %d", name, got, tt.want)
		}
	}
}

// TestB24_EveryAuthorityKnowsTheClock: every authority compares every validator's clock with its own. This
// holds for a validator that reports to another authority, and for an authority that has just started. Until
// an authority knows the skew, it completes no receipt of a change that may have a time.
func TestB24_EveryAuthorityKnowsTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		a := f.authority()
		v := f.validator("v", 0)
		v.ahead = -5 * time.Minute
		v.mustJoin(a, first())
		alive(t, 3*time.Second, v)
		time.Sleep(2 * publishInterval) // the other authorities get the news of v
		b := f.authority()
		result := b.wait(at(1, 1), 500*time.Millisecond)
		if r, _, _ := result(); r.Complete || statesOf(r)["v"] != Pending {
			t.Errorf("before b gets a report of v: got %+v, want v PENDING", r)
		}
		alive(t, time.Second, v)
		time.Sleep(publishInterval)
		for _, authority := range []*authority{a, b} {
			if skew := authority.List()[0].GetClockSkew(); skew == nil ||
				(skew.AsDuration()+5*time.Minute).Abs() > 2*publishInterval {
				t.Errorf("listed clock skew: got %v, want about -5m", skew)
			}
			r, _, _ := authority.wait(at(1, 1), time.Second)()
			if e := r.Entries[0]; r.Complete || e.State != Skewed || e.Skew == nil {
				t.Errorf("got %+v, want v CLOCK_SKEWED, with its skew", r)
			}
		}
		result = b.wait(at(1, 1), time.Minute)
		v.ahead = 0
		alive(t, time.Second, v)
		if r, took, _ := result(); !r.Complete || took > time.Second+sweepInterval+publishInterval {
			t.Errorf("after the clock was set right, after %v: got %+v, want it complete", took, r)
		}
	})
}

// TestB08_ARecordOfTheHashTellsThatAClockWasSet: an authority misses all news, and reads from the hash that a
// validator has a change. The same record shows that the validator's clock was set. So the skew is unknown
// until the next news.
func TestB08_ARecordOfTheHashTellsThatAClockWasSet(t *testing.T) {
	for _, ahead := range []time.Duration{5 * time.Minute, -5 * time.Minute, 0} {
		t.Run(ahead.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				a, b := f.authority(), f.authority()
				v := f.validator("v", 0)
				v.ahead = time.Millisecond // not 0, so that reports have the time
				v.mustJoin(a, first())
				alive(t, 2*time.Second, v)
				result := b.wait(at(1, 1), time.Second)
				if r, _, _ := result(); !r.Complete {
					t.Errorf("before b misses news: got %+v, want it complete", r)
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
					t.Fatalf("cursor of v without news: got %v, want revision 2", got)
				}
				want := Pending
				if ahead == 0 {
					want = Applied
				}
				if r, _, _ := b.wait(at(1, 2), 0)(); statesOf(r)["v"] != want {
					t.Errorf("known from the hash only: want state %d, got %+v", want, r)
				}
				deaf(false)
				alive(t, time.Second, v)
				time.Sleep(publishInterval)
				if ahead != 0 {
					want = Skewed
				}
				if r, _, _ := b.wait(at(1, 2), 0)(); statesOf(r)["v"] != want {
					t.Errorf("after news again: want state %d, got %+v", want, r)
				}
			})
		})
	}
}
