package usage_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"pgregory.net/rapid"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/usage"
)

const (
	events   policy.Scope = 1
	sessions policy.Scope = 2
	all                   = 1 << 30
)

var valid = policy.Decision{Allow: true, Reason: policy.TokenValid, Enforced: true, TokenID: "tok_a"}

// model is a simple Counter: it maps each kind and minute, with N 0, to a count.
type model map[usage.Count]uint64

func (m model) count(nowMillis int64, app string, scope policy.Scope, d policy.Decision) {
	m[usage.Count{
		AppID: strings.Clone(app), TokenID: strings.Clone(d.TokenID), Scope: scope, Reason: d.Reason, Enforced: d.Enforced,
		Minute: time.UnixMilli(nowMillis).Truncate(time.Minute),
	}]++
}

func (m model) add(counts ...usage.Count) {
	for _, c := range counts {
		n := c.N
		c.N = 0
		m[c] += n
	}
}

func (m model) total() (n uint64) {
	for _, k := range m {
		n += k
	}
	return n
}

// mixed returns one of many kinds of decisions, whose ids have usual, very long and other lengths.
func mixed(n int) (app string, scope policy.Scope, d policy.Decision) {
	app = fmt.Sprintf("app%09d", n%50)
	switch {
	case n%7 == 0:
		app = strings.Repeat("a", policy.MaxAppIDLength-2) + fmt.Sprintf("%02d", n%50)
	case n%11 == 0:
		app = fmt.Sprintf("0000000000000000000000000%03d", n%50) // with a usual token id, as much as is short
	}
	d = policy.Decision{Reason: policy.TokenMissing + policy.Reason(n%3), Enforced: n%2 == 0}
	if n%5 != 0 {
		d.TokenID, d.Reason = fmt.Sprintf("tok_%016d", n), policy.TokenValid
	}
	if n%97 == 0 {
		d.TokenID = strings.Repeat("t", 3000) + fmt.Sprint(n)
	}
	return app, events + policy.Scope(n%4), d
}

// B21, B22: every decision is taken exactly once, by app, token, scope, reason, enforcement and minute. The
// order of the minutes and the size of a Take do not matter.
func TestB21_WhatIsCountedIsTakenOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var c usage.Counter
		counted, taken := model{}, model{}
		minute := rapid.Int64Range(29_000_000, 29_000_004)
		t.Repeat(map[string]func(*rapid.T){
			"count": func(t *rapid.T) {
				now := minute.Draw(t, "minute")*60_000 + rapid.Int64Range(0, 59_999).Draw(t, "millis")
				first := rapid.IntRange(0, 500).Draw(t, "first")
				for n := first; n < first+rapid.IntRange(1, 100).Draw(t, "kinds"); n++ {
					app, scope, d := mixed(n)
					c.Add(now, app, scope, d)
					counted.count(now, app, scope, d)
				}
			},
			"take": func(t *rapid.T) {
				most := rapid.IntRange(0, 300).Draw(t, "most")
				got := c.Take(time.UnixMilli(minute.Draw(t, "now")*60_000), most)
				if len(got) > most {
					t.Fatalf("%d of at most %d", len(got), most)
				}
				taken.add(got...)
			},
			"take finished": func(t *rapid.T) {
				taken.add(c.TakeAll(all)...)
				now := time.UnixMilli(minute.Draw(t, "now") * 60_000)
				for n := range int64(5) {
					c.Add((29_000_000+n)*60_000, "app", events, valid)
					counted.count((29_000_000+n)*60_000, "app", events, valid)
				}
				got := c.Take(now.Add(59*time.Second), all)
				taken.add(got...)
				for _, k := range got {
					if k.Minute.Equal(now) {
						t.Fatalf("of the running minute: %+v", k)
					}
				}
				if left := c.Stats().Entries; len(got) != 4 || left != 1 {
					t.Fatalf("took %d and left %d of 5 minutes", len(got), left)
				}
			},
			"take all": func(t *rapid.T) {
				most := rapid.IntRange(0, 1000).Draw(t, "most")
				got := c.TakeAll(most)
				taken.add(got...)
				if left := c.Stats().Entries; len(got) > most || len(got) < most && left != 0 {
					t.Fatalf("took %d of at most %d, and left %d", len(got), most, left)
				}
			},
		})
		taken.add(c.TakeAll(all)...)
		if !maps.Equal(taken, counted) {
			t.Fatalf("%d of %d kinds taken, %d of %d decisions", len(taken), len(counted), taken.total(), counted.total())
		}
		if got := c.Stats(); got != (usage.Stats{}) {
			t.Fatalf("left: %+v", got)
		}
	})
}

// B21: no decision is lost or taken twice while minutes change, the clock is set back, tables grow and
// other goroutines take.
func TestB21_NothingIsLostWhenTheMinuteTurns(t *testing.T) {
	var c usage.Counter
	var clock atomic.Int64
	var counting, taking sync.WaitGroup
	const counters = 8
	counted, taken := make([]model, counters), model{}
	for i := range counters {
		counted[i] = model{}
		counting.Go(func() {
			for range 20_000 {
				now := clock.Load()
				app, scope, d := mixed(rand.IntN(3) * rand.IntN(300)) // the least of them are frequent
				c.Add(now, app, scope, d)
				counted[i].count(now, app, scope, d)
				if rand.IntN(200) == 0 {
					clock.Add(rand.Int64N(4*60_000) - 60_000)
				}
				if clock.Load() > 20*60_000 {
					clock.Store(0)
				}
			}
		})
	}
	done := make(chan struct{})
	taking.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if rand.IntN(2) == 0 {
				taken.add(c.TakeAll(rand.IntN(500))...)
			} else {
				taken.add(c.Take(time.UnixMilli(clock.Load()), rand.IntN(500))...)
			}
			c.Stats()
		}
	})
	counting.Wait()
	close(done)
	taking.Wait()
	taken.add(c.TakeAll(all)...)
	want := model{}
	for _, m := range counted {
		for k, n := range m {
			want[k] += n
		}
	}
	if !maps.Equal(taken, want) {
		wrong := 0
		for k, n := range want {
			if taken[k] != n {
				wrong++
			}
		}
		t.Errorf("%d taken, %d counted; %d kinds of %d differ", taken.total(), want.total(), wrong, len(want))
	}
	if got := c.Stats(); got != (usage.Stats{}) {
		t.Errorf("left: %+v", got)
	}
}

// Counts that nobody takes are dropped, the oldest minute first. Stats counts them exactly, also under
// concurrency.
func TestB21_MinutesThatNobodyTakesAreDropped(t *testing.T) {
	var c usage.Counter
	var group sync.WaitGroup
	const counters, minutes, each = 4, 3 * usage.MaxMinutes, 500
	var clock atomic.Int64
	for range counters {
		group.Go(func() {
			for range minutes * each {
				app, scope, d := mixed(rand.IntN(100))
				c.Add(clock.Add(60_000/each/counters), app, scope, d)
			}
		})
	}
	group.Wait()
	before := c.Stats()
	taken := model{}
	taken.add(c.TakeAll(all)...)
	if n := taken.total() + before.Dropped; n != counters*minutes*each {
		t.Errorf("%d taken and %d dropped, %d counted", taken.total(), before.Dropped, counters*minutes*each)
	}
	if before.Entries == 0 || before.Dropped == 0 || before.Entries > 100*(usage.MaxMinutes+1) {
		t.Errorf("%+v", before)
	}
	seen := map[time.Time]bool{}
	for k := range taken {
		seen[k.Minute] = true
	}
	if !seen[time.UnixMilli(clock.Load()).Add(-time.Minute).Truncate(time.Minute)] || len(seen) < usage.MaxMinutes {
		t.Errorf("%d minutes", len(seen))
	}
}

// Apps without a policy, which anyone can invent, leave no entry. All unknown tokens of an app share one
// entry (B21).
func TestB21_MadeUpIDsTakeNoMemory(t *testing.T) {
	var c usage.Counter
	for n := range 1000 {
		c.Add(0, fmt.Sprint(n), events, policy.Decision{Allow: true, Reason: policy.AppNotConfigured})
		c.Add(0, "app", events, policy.Decision{Reason: policy.TokenUnknown})
	}
	got := c.TakeAll(all)
	if len(got) != 1 ||
		got[0] != (usage.Count{AppID: "app", Scope: events, Reason: policy.TokenUnknown, Minute: time.UnixMilli(0), N: 1000}) {
		t.Errorf("%+v", got)
	}
}

// Ids with impossible lengths are not confused with other ids.
func TestIDsThatDoNotFitAreDropped(t *testing.T) {
	var c usage.Counter
	long := strings.Repeat("a", 1<<16)
	for _, app := range []string{"", long[:256], long[:256+3], long} {
		c.Add(0, app, events, valid)
	}
	d := valid
	for _, token := range []string{long, long + "tok_a"} {
		d.TokenID = token
		c.Add(0, "app", events, d)
	}
	c.Add(0, "aaa", events, valid)
	for minute := range int64(2 * usage.MaxMinutes) {
		c.Add(minute*60_000, "", events, valid) // minutes in which there is nothing else
	}
	if got := c.Stats(); got != (usage.Stats{Entries: 1, Dropped: 6 + 2*usage.MaxMinutes}) {
		t.Errorf("%+v", got)
	}
}

// The ids may be in memory that is reused.
func TestNothingIsKeptOfTheCaller(t *testing.T) {
	for _, length := range []int{3, 60} {
		var c usage.Counter
		app, token := []byte(strings.Repeat("a", length)), []byte(strings.Repeat("t", length))
		d := valid
		d.TokenID = unsafe.String(&token[0], len(token))
		c.Add(0, unsafe.String(&app[0], len(app)), events, d)
		app[0], token[0] = 'x', 'x'
		if got := c.TakeAll(
			all,
		); len(got) != 1 || got[0].AppID != strings.Repeat("a", length) ||
			got[0].TokenID != strings.Repeat("t", length) {
			t.Errorf("%+v", got)
		}
	}
}

// Count accepts any time.
func TestAnyTimeIsCounted(t *testing.T) {
	var c usage.Counter
	times := []int64{0, -1, 1 << 62, -1 << 62, 1<<63 - 1, -1 << 63, 59_999, 60_000}
	for _, now := range times {
		c.Add(now, "app", sessions, valid)
	}
	n := uint64(0)
	for _, k := range append(c.Take(time.UnixMilli(-1<<62), all), c.TakeAll(all)...) {
		n += k.N
	}
	if n != uint64(len(times)) {
		t.Errorf("%d of %d", n, len(times))
	}
}

// Counting a kind that its minute has seen does not allocate.
func TestCountDoesNotAllocate(t *testing.T) {
	var c usage.Counter
	for n := range 1000 {
		app, scope, d := mixed(n)
		c.Add(0, app, scope, d)
		if got := testing.AllocsPerRun(1, func() { c.Add(0, app, scope, d) }); got != 0 {
			t.Errorf("%q, %+v: %v allocations", app, d, got)
		}
	}
}
