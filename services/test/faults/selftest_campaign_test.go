package faults

import (
	"maps"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersign/countersign/pkg/policy"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// newTestCampaign returns a campaign with two validators that never ran: validator-0 has staleness bounds on
// all scopes, validator-1 none.
func newTestCampaign() *campaign {
	c := &campaign{oracle: newOracle(2), faults: &ledger{}, stats: newStats()}
	c.faults.oracle = c.oracle
	// The tests use moments of the first minute.
	c.oracle.began = time.Now().Add(-time.Minute)
	for i, id := range []string{"validator-0", "validator-1"} {
		s := &seat{number: i, id: id}
		s.now.Store(&occupant{life: 1})
		c.seats = append(c.seats, s)
	}
	for scope := range c.seats[0].config.MaxStaleness {
		c.seats[0].config.MaxStaleness[scope] = 3 * time.Second
	}
	return c
}

const (
	applied = countersignv1.PropagationState_PROPAGATION_STATE_APPLIED
	pending = countersignv1.PropagationState_PROPAGATION_STATE_PENDING
	fenced  = countersignv1.PropagationState_PROPAGATION_STATE_FENCED
	lost    = countersignv1.PropagationState_PROPAGATION_STATE_LOST
)

// receiptOf returns a receipt with the states of validator-0 and validator-1; state 0 leaves a validator out.
func receiptOf(complete bool, states ...countersignv1.PropagationState) *countersignv1.Receipt {
	r := &countersignv1.Receipt{Complete: complete}
	for i, state := range states {
		if state != 0 {
			r.Validators = append(r.Validators, &countersignv1.ReceiptEntry{
				ValidatorId: []string{"validator-0", "validator-1"}[i],
				State:       state,
			})
		}
	}
	return r
}

// expect fails the test unless the oracle found exactly the given kind of violation. With an empty kind it
// must have found none.
func (o *oracle) expect(t *testing.T, want string) {
	t.Helper()
	got := slices.Collect(maps.Keys(o.counts))
	if want == "" && len(got) > 0 || want != "" && !slices.Equal(got, []string{want}) {
		t.Errorf("reported %q, want %q: %v", got, want, o.found)
	}
}

// TestOracleReceipts: the oracle reports a receipt that claims more than is true, and reports no other
// receipt (B24).
func TestOracleReceipts(t *testing.T) {
	stop := func(i int) func(*campaign) {
		return func(c *campaign) { c.seats[i].stopped.Store(int64(20 * second)) }
	}
	nothing := func(*campaign) {}
	for name, test := range map[string]struct {
		prepare func(*campaign)
		receipt *countersignv1.Receipt
		want    string // the kind of violation; empty for none
		reached string
	}{
		"complete":                                 {nothing, receiptOf(true, applied, applied), "", ""},
		"complete with one PENDING":                {nothing, receiptOf(true, applied, pending), unearned, ""},
		"complete with one LOST":                   {nothing, receiptOf(true, applied, lost), unearned, ""},
		"complete with one FENCED that has bounds": {nothing, receiptOf(true, fenced, applied), "", ""},
		"complete with one FENCED that has none":   {nothing, receiptOf(true, applied, fenced), unearned, ""},
		"complete with one whose clock is off":     {nothing, receiptOf(true, applied, clockSkewed), unearned, ""},
		"complete without one that was stopped":    {stop(1), receiptOf(true, applied), unnamed, ""},
		"incomplete without one that was stopped":  {stop(1), receiptOf(false, applied), "", ""},
		"one that was stopped is LOST":             {stop(1), receiptOf(false, applied, lost), "", stoppedLost},
		"one that was stopped is PENDING":          {stop(1), receiptOf(false, applied, pending), "", stoppedPending},
		"one that was stopped is FENCED":           {stop(0), receiptOf(true, fenced, applied), "", stoppedFenced},
		"one that was stopped has applied it":      {stop(1), receiptOf(true, applied, applied), impossible, ""},
		"one that was stopped later has applied it": {
			func(c *campaign) { c.seats[1].stopped.Store(int64(31 * second)) },
			receiptOf(true, applied, applied), "", "",
		},
		"without one that was stopped, of a store that was wiped": {func(c *campaign) {
			stop(1)(c)
			c.oracle.open(&loss{From: 25 * second, Whole: true})
		}, receiptOf(true, applied), "", ""},
		"incomplete when all has been well for long": {
			func(c *campaign) { c.calm.since = 10 * second },
			receiptOf(false, applied, pending), incomplete, "",
		},
		"incomplete when all has been well for short": {
			func(c *campaign) { c.calm.since = 55 * second },
			receiptOf(false, applied, pending), "", "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newTestCampaign()
			test.prepare(c)
			c.judgeReceipt(c.oracle.now(), 30*second, test.receipt)
			c.oracle.expect(t, test.want)
			if test.reached != "" && c.stats.reached[test.reached] != 1 {
				t.Errorf("rare states reached: got %v, want %q", c.stats.reached, test.reached)
			}
		})
	}
}

// TestOracleClocks: the oracle reports a receipt that does not take into account that the clock of a
// validator is wrong.
func TestOracleClocks(t *testing.T) {
	later, soon := time.Now().Add(time.Hour), time.Now().Add(-time.Second)
	for name, test := range map[string]struct {
		ahead time.Duration
		since moment
		state countersignv1.PropagationState
		turn  time.Time
		age   time.Duration // age of the report
		want  string
	}{
		"right":                         {0, 20 * second, applied, later, 0, ""},
		"ahead":                         {clockJump, 20 * second, applied, later, 0, skewIgnored},
		"behind":                        {-clockJump, 20 * second, applied, later, 0, skewIgnored},
		"named":                         {clockJump, 20 * second, clockSkewed, later, 0, ""},
		"has only just been set":        {clockJump, 59 * second, applied, later, 0, ""},
		"set after the report":          {clockJump, 20 * second, applied, later, 45 * time.Second, ""},
		"set just before the report":    {clockJump, 20 * second, applied, later, 38 * time.Second, ""},
		"set well before an old report": {clockJump, 20 * second, applied, later, 30 * time.Second, skewIgnored},
		"ahead, it has come":            {clockJump, 20 * second, applied, soon, 0, ""},
		"behind, it has come here":      {-clockJump, 20 * second, applied, soon, 0, skewIgnored},
	} {
		t.Run(name, func(t *testing.T) {
			c := newTestCampaign()
			c.seats[1].clock.settings.Store(&[]setClock{{}, {test.since, test.ahead}})
			receipt := receiptOf(false, applied, test.state)
			receipt.Validators[1].ReportTime = timestamppb.New(time.Now().Add(-test.age))
			c.judgeTurn(receipt, test.turn)
			c.oracle.expect(t, test.want)
		})
	}
}

// TestOracleExpiry: a token's verdict follows the clock of the validator, unless the token was ended at once
// (B08).
func TestOracleExpiry(t *testing.T) {
	at := func(b *fixture, minutes int64, reason policy.Reason) *decision {
		d := b.answer(30*second, 0, reason)
		d.askedMillis, d.answeredMillis = minutes*60_000, minutes*60_000
		d.answer.Allow = reason == policy.TokenValid
		return d
	}
	atTen, atOnce := expiry{600_000, 600_000}, expiry{endedAtOnce, endedAtOnce}
	for name, test := range map[string]struct {
		expiry  expiry
		minutes int64
		reason  policy.Reason
		want    string
	}{
		"before it expires":                          {atTen, 5, policy.TokenValid, ""},
		"after it expired":                           {atTen, 15, policy.TokenExpired, ""},
		"accepted after it expired":                  {atTen, 15, policy.TokenValid, stale},
		"denied before it expires":                   {atTen, 5, policy.TokenExpired, unexplained},
		"ended at once, on a clock of an age before": {atOnce, -1_000_000, policy.TokenExpired, ""},
		"accepted though ended at once":              {atOnce, -1_000_000, policy.TokenValid, stale},
	} {
		t.Run(name, func(t *testing.T) {
			b := newFixture(made{sent: 50 * second, acked: 51 * second})
			b.token.revoked.Store(0)
			b.token.expiry.set(test.expiry, made20)
			b.judge(at(b, test.minutes, test.reason))
			b.review(true)
			if test.want == unexplained { // the validator has denied it before
				delete(b.counts, denied)
			}
			b.expect(t, test.want)
		})
	}
}

// TestClockBetween: in an interval around the setting of a clock, the clock may have shown the old or the new
// time.
func TestClockBetween(t *testing.T) {
	c := &clock{}
	c.settings.Store(&[]setClock{{}, {10 * second, clockJump}, {20 * second, 0}})
	for _, test := range []struct {
		from, to    moment
		least, most time.Duration
	}{
		{5 * second, 6 * second, 0, 0},
		{9 * second, 11 * second, 0, clockJump},
		{12 * second, 13 * second, clockJump, clockJump},
		{10*second + 1, 10*second + 2, 0, clockJump},
		{5 * second, 25 * second, 0, clockJump},
		{21 * second, 22 * second, 0, 0},
	} {
		if least, most := c.between(test.from, test.to); least != test.least || most != test.most {
			t.Errorf("%s to %s: %s to %s, want %s to %s", test.from, test.to, least, most, test.least, test.most)
		}
	}
}

// TestOracleHeld: a change that a running validator held at a restoration is not gone (B30).
func TestOracleHeld(t *testing.T) {
	for name, test := range map[string]struct {
		held  held
		until moment
		want  bool // whether the change is gone
	}{
		"held by one that runs":           {held{held20.at.Tag: {{1, 1}}}, 0, false},
		"held by one that was restarted":  {held{held20.at.Tag: {{1, 0}}}, 0, true},
		"held by nobody":                  {held{}, 0, true},
		"held when it was restored first": {held{held20.at.Tag: {{1, 1}}}, 28 * second, true},
	} {
		t.Run(name, func(t *testing.T) {
			c := newTestCampaign()
			for _, s := range c.seats {
				s.now.Store(&occupant{decider: &remote{}, life: 1})
			}
			first := &loss{Floor: 10 * second, From: 24 * second, Whole: true, Restored: true, held: test.held}
			first.until.Store(int64(test.until))
			c.oracle.open(first)
			c.oracle.open(&loss{Floor: 10 * second, From: 24 * second, Whole: true, Restored: true})
			if got := c.gone(gap{app: &app{id: "app"}, missing: held20}); got != test.want {
				t.Errorf("gone = %t, want %t", got, test.want)
			}
		})
	}
}

// TestOracleDamage: only an app of the damaged partition may be undecided, and only until the store is good
// again.
func TestOracleDamage(t *testing.T) {
	o := newOracle(1)
	o.began = time.Now().Add(-time.Minute)
	d := &damage{partition: 3, from: 20 * second}
	o.damage(d)
	if !o.damaged(3, 30*second) || o.damaged(4, 30*second) {
		t.Error("while one partition is damaged: damaged must be true for this partition and false for others")
	}
	o.repaired(d)
	if !o.damaged(3, 30*second) || o.damaged(3, 61*second) {
		t.Error("after the repair: damaged must be false for later times and true for earlier ones")
	}
	o.damage(&damage{partition: everyPartition, from: 20 * second})
	if !o.damaged(4, 61*second) {
		t.Error("damage of a key of the whole store: damaged = false for a partition, want true")
	}
}

// TestOracleOlderRecordHidesChanges: an older record hides later changes of its own partition, until the
// store is good again.
func TestOracleOlderRecordHidesChanges(t *testing.T) {
	o := newOracle(1)
	o.began = time.Now().Add(-time.Minute)
	d := &damage{from: 20 * second, hides: func(id string) bool { return id == "hidden" }}
	o.damage(d)
	before, after := made{sent: 10 * second, acked: 11 * second}, made{sent: 21 * second, acked: 22 * second}
	now := span{low: 23 * second, end: 24 * second}
	if !excused(o.lossesOf("hidden"), after, now) {
		t.Error("while an older record hides a change: excused = false for an answer without the change, want true")
	}
	if excused(o.lossesOf("another"), after, now) || excused(o.lossesOf("hidden"), before, now) {
		t.Error("excused = true for a change that no older record hides, want false")
	}
	o.repaired(d)
	if later := (span{low: 61 * second, end: 62 * second}); excused(o.lossesOf("hidden"), after, later) {
		t.Error("excused = true although the store is good again, want false")
	}
}

// TestUnreached: a recorded run reports the faults that it never inflicted and the rare states that it never
// reached.
func TestUnreached(t *testing.T) {
	all := &summary{Topology: "cluster", Faults: map[string]int{}, Reached: map[string]int{}}
	for _, l := range lanes {
		for _, f := range l.faults {
			all.Faults[f.name] = 1
		}
	}
	for _, r := range rarities {
		all.Reached[r.name] = 1
	}
	if missing := unreached(options{}, []*summary{all}); len(missing) > 0 {
		t.Errorf("everything was reached: unreached = %q, want none", missing)
	}
	for _, r := range rarities {
		if !slices.ContainsFunc(lanes, func(l lane) bool {
			return slices.ContainsFunc(l.faults, func(f fault) bool { return r.after(f.name) })
		}) {
			t.Errorf("rare state %q: no fault causes it", r.name)
		}
	}
	delete(all.Faults, "slot moved")
	delete(all.Reached, stoppedLost)
	want := []string{`fault "slot moved"`, `state "` + stoppedLost + `"`}
	if missing := unreached(options{}, []*summary{all}); !slices.Equal(missing, want) {
		t.Errorf("unreached: got %q, want %q", missing, want)
	}
	if missing := unreached(options{skip: "slot|stopped"}, []*summary{all}); len(missing) > 0 {
		t.Errorf("what was left out is missing: %q", missing)
	}
	all.Topology = "sentinel"
	if missing := unreached(options{skip: "stopped"}, []*summary{all}); len(missing) > 0 {
		t.Errorf("what is not for the topology is missing: %q", missing)
	}
}
