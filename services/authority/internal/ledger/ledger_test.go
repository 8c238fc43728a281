package ledger

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/usage"
	"github.com/countersign/countersign/services/store"
)

// inBubble runs a test in fake time, with a ledger over a model of Redis.
func inBubble(t *testing.T, test func(t *testing.T, l *Ledger, storage *memory)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		storage := newMemory()
		l := open(storage, time.Now)
		defer run(l)()
		test(t, l, storage)
	})
}

func counted(t *testing.T, l *Ledger, appID string) (n uint64) {
	t.Helper()
	h, err := l.App(t.Context(), appID)
	if err != nil {
		t.Fatal(err)
	}
	sums, _ := h.Sums(time.Now().Add(-48 * time.Hour))
	for _, s := range sums {
		n += s.N
	}
	return n
}

func batch(number uint64, oldest bool, counts ...usage.Count) *usage.Batch {
	return &usage.Batch{Number: number, Oldest: oldest, Counts: counts, Partition: 1}
}

func one(appID string) usage.Count {
	return usage.Count{AppID: appID, Scope: 1, Reason: policy.TokenMissing, Minute: time.Now().Truncate(time.Minute), N: 1}
}

// TestB21_OnlyTheNextBatchIsAdded: a repeated batch is not added again. A batch after a gap is added only if
// the validator has no earlier one.
func TestB21_OnlyTheNextBatchIsAdded(t *testing.T) {
	inBubble(t, func(t *testing.T, l *Ledger, _ *memory) {
		a := appIn(1, 0)
		for i, tt := range []struct {
			batch   *usage.Batch
			counted uint64
			total   uint64
		}{
			{batch(2, false, one(a)), 0, 0},
			{batch(1, true, one(a)), 1, 1},
			{batch(1, true, one(a)), 1, 1},
			{batch(2, false, one(a)), 2, 2},
			{batch(1, true, one(a)), 2, 2},
			{batch(2, false), 2, 2}, // a question
			{batch(3, false), 2, 2}, // a question about a batch that was lost
			{batch(4, false, one(a)), 2, 2},
			{batch(4, true, one(a)), 4, 3},
			{batch(3, false, one(a)), 4, 3},
		} {
			n, err := l.Add(t.Context(), "one", tt.batch)
			if err != nil || n != tt.counted || counted(t, l, a) != tt.total {
				t.Fatalf("%d: %d are counted (%v), and %d decisions; want %d and %d", i, n, err, counted(t, l, a), tt.counted, tt.total)
			}
		}
		if n, err := l.Add(t.Context(), "two", batch(1, true, one(a))); n != 1 || err != nil || counted(t, l, a) != 4 {
			t.Errorf("another instance: %d, %v", n, err)
		}
	})
}

// TestB21_WaitingBatchesAreAddedTogether: the batches of many validators cost one write.
func TestB21_WaitingBatchesAreAddedTogether(t *testing.T) {
	inBubble(t, func(t *testing.T, l *Ledger, storage *memory) {
		writes := 0
		storage.trouble = func(when string) error {
			if time.Sleep(time.Second); when == "before write" {
				writes++
			}
			return nil
		}
		done := make(chan error)
		for i := range 51 {
			go func() {
				_, err := l.Add(context.Background(), fmt.Sprint(i), batch(1, true, one(appIn(1, i%3))))
				done <- err
			}()
			synctest.Wait()
		}
		for range 51 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if writes != 2 {
			t.Errorf("%d writes", writes)
		}
	})
}

// TestB21_LostReplyIsNotCountedTwice: a write whose reply is lost is found by the next try.
func TestB21_LostReplyIsNotCountedTwice(t *testing.T) {
	inBubble(t, func(t *testing.T, l *Ledger, storage *memory) {
		lost := 3
		storage.trouble = func(when string) error {
			if when == "after write" && lost > 0 {
				lost--
				return errLost
			}
			return nil
		}
		a := appIn(1, 0)
		for number := range uint64(5) {
			if n, err := l.Add(t.Context(), "one", batch(number+1, number == 0, one(a))); n != number+1 || err != nil {
				t.Errorf("batch %d: %d, %v", number+1, n, err)
			}
		}
		if n := counted(t, l, a); n != 5 || lost != 0 {
			t.Errorf("%d decisions are counted, %d replies still to be lost", n, lost)
		}
	})
}

// TestB21_WhatIsNotCounted: an app that does not exist takes no memory, nor do kinds that do not exist. A
// token that the app does not have is no token. A batch is answered all the same.
func TestB21_WhatIsNotCounted(t *testing.T) {
	inBubble(t, func(t *testing.T, l *Ledger, storage *memory) {
		a := appIn(1, 0)
		change := func(c usage.Count, f func(*usage.Count)) usage.Count { f(&c); return c }
		n, err := l.Add(t.Context(), "one", batch(1, true,
			one("no-such-app"),
			change(one(a), func(c *usage.Count) { c.Scope = 60 }),
			change(one(a), func(c *usage.Count) { c.Reason = policy.AppNotConfigured }),
			change(one(a), func(c *usage.Count) { c.Reason = 99 }),
			change(one(a), func(c *usage.Count) { c.Minute = time.Now().Add(-36 * 24 * time.Hour) }),
			change(one(a), func(c *usage.Count) { c.TokenID, c.N = "tok_of_another_app", 10 }),
			change(one(a), func(c *usage.Count) { c.Minute, c.N = time.Now().Add(100*time.Hour), 100 }),
			change(one(a), func(c *usage.Count) { c.TokenID, c.N = "tok_aaaaaaaaaaaaaaaa", 1000 }),
		))
		if n != 1 || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
		h, _ := l.App(t.Context(), a)
		sums, _ := h.Sums(time.Now().Add(-time.Hour))
		if len(sums) != 2 || sums[0].N != 110 || sums[0].TokenID != "" || sums[1].N != 1000 {
			t.Errorf("%+v", sums)
		}
		if uses := h.LastUses(); len(uses) != 1 || time.Since(uses[0].Minute) >= time.Minute {
			t.Errorf("%+v", uses)
		}
		if len(storage.apps) != 1 {
			t.Errorf("%d apps are stored", len(storage.apps))
		}
		if m := l.config.Metrics; testutil.ToFloat64(m.strange) != 1 || testutil.ToFloat64(m.dropped) != 4 ||
			testutil.ToFloat64(m.decisions) != 1110 || testutil.ToFloat64(m.batches) != 1 {
			t.Error("the metrics do not say so")
		}
	})
}

// TestB21_TokensThatAreNotKnownKeepTheirCounts: while the tokens of an app are not known, counts keep their
// token ids. A report names them as soon as the tokens are known again.
func TestB21_TokensThatAreNotKnownKeepTheirCounts(t *testing.T) {
	inBubble(t, func(t *testing.T, l *Ledger, _ *memory) {
		for number, app := range []string{"dark-app", appIn(1, 0)} {
			c := one(app)
			c.TokenID = "tok_cccccccccccccccc"
			if n, err := l.Add(t.Context(), "one", batch(uint64(number)+1, number == 0, c)); n != uint64(number)+1 || err != nil {
				t.Fatalf("%d, %v", n, err)
			}
			h, err := l.App(t.Context(), app)
			if err != nil {
				t.Fatal(err)
			}
			sums, _ := h.Sums(time.Now().Add(-time.Hour))
			want := map[string]string{"dark-app": "tok_cccccccccccccccc", appIn(1, 0): ""}[app]
			if len(sums) != 1 || sums[0].TokenID != want || sums[0].N != 1 {
				t.Errorf("%s: %+v, want one with the token %q", app, sums, want)
			}
		}
	})
}

// TestB21_UnknownPolicyWaits: while it is not known whether an app exists, its batch is not answered.
func TestB21_UnknownPolicyWaits(t *testing.T) {
	inBubble(t, func(t *testing.T, l *Ledger, _ *memory) {
		if n, err := l.Add(t.Context(), "one", batch(1, true, one("down"))); !errors.Is(err, errNotLoaded) {
			t.Errorf("%d, %v", n, err)
		}
	})
}

// TestB21_DamagedCountsBeginAnew: counts that cannot be read do not stop the next ones.
func TestB21_DamagedCountsBeginAnew(t *testing.T) {
	inBubble(t, func(t *testing.T, l *Ledger, storage *memory) {
		a := appIn(1, 0)
		storage.apps[a] = store.AppCounts{Version: "x", Running: []byte{99}, Hours: []byte{99}, Days: []byte{99}}
		for number := range uint64(3) {
			if n, err := l.Add(t.Context(), "one", batch(number+1, true, one(a))); n != number+1 || err != nil {
				t.Fatalf("%d, %v", n, err)
			}
			time.Sleep(2 * time.Hour)
		}
		if n := counted(t, l, a); n != 3 {
			t.Errorf("%d decisions are counted", n)
		}
		if testutil.ToFloat64(l.config.Metrics.damaged) == 0 {
			t.Error("no metric says so")
		}
	})
}

// TestB21_CountsOverTime: an hour at a time, over 40 days, with batches that come late: hours and days have
// all of the time that is kept.
func TestB21_CountsOverTime(t *testing.T) {
	inBubble(t, func(t *testing.T, l *Ledger, storage *memory) {
		a := appIn(1, 0)
		const hours = 40 * 24
		for number := range uint64(hours) {
			late := one(a)
			late.Minute = late.Minute.Add(-3 * time.Hour)
			if n, err := l.Add(t.Context(), "one", batch(number+1, number == 0, one(a), late)); n != number+1 || err != nil {
				t.Fatalf("%d, %v", n, err)
			}
			time.Sleep(time.Hour)
		}
		h, _ := l.App(t.Context(), a)
		for window, most := range map[time.Duration]uint64{12 * time.Hour: 24, 48 * time.Hour: 96, 35 * 24 * time.Hour: 35 * 48} {
			sums, from := h.Sums(time.Now().Add(-window))
			// The last batch was an hour ago, and each hour gets a late count three hours later.
			if n := sums[0].N; n < most-2-3 || n > most+2*uint64(time.Since(from)/time.Hour)-2*uint64(window/time.Hour) {
				t.Errorf("%v: %d decisions since %v, want about %d", window, n, from, most)
			}
		}
		if size := len(storage.apps[a].Hours) + len(storage.apps[a].Days) + len(storage.apps[a].Running); size > 600 {
			t.Errorf("the counts take %d bytes", size)
		}
	})
}

// TestB21_FullQueue: too many counts that wait are refused, and those that were given up make room.
func TestB21_FullQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(newMemory(), time.Now) // does not run
		refused := make(chan error)
		big := batch(1, true, make([]usage.Count, usage.MaxBatch)...)
		const fit = MaxWaiting / (usage.MaxBatch + 1)
		for range fit + 1 {
			go func() {
				_, err := l.Add(context.Background(), "one", big)
				refused <- err
			}()
		}
		if err := <-refused; !errors.Is(err, ErrBusy) {
			t.Errorf("%v", err)
		}
		for range fit {
			if err := <-refused; !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v", err)
			}
		}
		if n := l.queues[0].all.counts; n != 0 {
			t.Errorf("%d counts are said to wait", n)
		}
	})
}

// TestB21_Coverage: what was stored is read, entries of no use are removed, and a damaged one makes the
// coverage begin anew.
func TestB21_Coverage(t *testing.T) {
	inBubble(t, func(t *testing.T, l *Ledger, storage *memory) {
		now := time.Now().UTC().Truncate(time.Millisecond)
		want := Coverage{"x", "i2", now, now.Add(time.Hour), false, 7, now.Add(time.Minute), now}
		for _, c := range []Coverage{want, {"w", "i1", now, time.Time{}, true, 0, time.Time{}, now}} {
			check.NoError(t, l.Cover(t.Context(), c))
		}
		all, since, err := l.Coverage(t.Context())
		if err != nil || len(all) != 2 || all[1] != want || !all[0].Final || since.After(now.Add(time.Minute)) {
			t.Errorf("%+v since %v, %v", all, since, err)
		}
		_ = storage.Cover(t.Context(), "i3", []byte("1damaged"))
		time.Sleep(10 * time.Minute)
		if all, since, _ := l.Coverage(t.Context()); len(all) != 2 || !since.Equal(time.Now()) {
			t.Errorf("with a damaged entry: %+v since %v", all, since)
		}
		time.Sleep(4 * time.Hour)
		all, since, _ = l.Coverage(t.Context())
		if len(all) != 1 || all[0] != want || time.Since(since) > 4*time.Hour || time.Since(since) < time.Minute {
			t.Errorf("after it was removed: %+v since %v", all, since)
		}
		time.Sleep(35*24*time.Hour + 4*time.Hour)
		if held, _, _ := storage.Covered(t.Context()); len(held) != 0 {
			t.Errorf("old entries stay: %v", held)
		}
	})
}

// TestB21_CoverageSaysMore: of an instance, what says less never replaces what says more.
func TestB21_CoverageSaysMore(t *testing.T) {
	inBubble(t, func(t *testing.T, l *Ledger, _ *memory) {
		now := time.Now().UTC()
		begun := Coverage{ValidatorID: "v", InstanceID: "i", Start: now}
		until := begun
		until.Until = now.Add(time.Hour)
		back := begun // an authority lacks a batch that was acknowledged
		back.Until = now.Add(time.Minute)
		final := until
		final.Final = true
		for i, step := range []struct{ cover, want Coverage }{
			{begun, begun}, {until, until}, {begun, until}, {back, back}, {final, final}, {until, final}, {begun, final},
		} {
			check.NoError(t, l.Cover(t.Context(), step.cover))
			all, _, err := l.Coverage(t.Context())
			check.NoError(t, err)
			all[0].Heard = time.Time{}
			if all[0] != step.want {
				t.Errorf("step %d: %+v, want %+v", i, all[0], step.want)
			}
		}
	})
}

// TestB21_EndedStartsAreFewAtLast: a validator that is started again and again leaves no more coverage than
// reports need.
func TestB21_EndedStartsAreFewAtLast(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	start := func(ago time.Duration, final bool, dropped uint64) Coverage {
		at := now.Add(-ago)
		return Coverage{
			ValidatorID: "v", InstanceID: ago.String(), Start: at, Until: at.Add(time.Minute), Final: final, Dropped: dropped,
			Heard: at.Add(time.Minute),
		}
	}
	killed := func(ago time.Duration) Coverage { return start(ago, false, 0) }
	whole := func(ago time.Duration) Coverage { return start(ago, true, 0) }
	const h = time.Hour
	for name, tt := range map[string]struct {
		all  []Coverage
		want string
	}{
		"one that runs":                  {[]Coverage{killed(5 * h)}, "[]"},
		"left":                           {[]Coverage{whole(5 * h)}, "[5h0m0s]"},
		"left lately":                    {[]Coverage{whole(h / 2)}, "[]"},
		"killed, runs":                   {[]Coverage{killed(5 * h), killed(3 * h)}, "[]"},
		"killed twice, runs":             {[]Coverage{killed(7 * h), killed(5 * h), killed(3 * h)}, "[7h0m0s]"},
		"killed lately":                  {[]Coverage{killed(h / 2), killed(h / 3), killed(h / 4)}, "[]"},
		"killed, left, runs":             {[]Coverage{killed(7 * h), whole(5 * h), killed(3 * h)}, "[]"},
		"killed, left twice, runs":       {[]Coverage{killed(9 * h), whole(7 * h), whole(5 * h), killed(3 * h)}, "[5h0m0s]"},
		"left with a drop, left":         {[]Coverage{start(7*h, true, 1), whole(5 * h), whole(3 * h)}, "[3h0m0s]"},
		"killed, dropped, runs":          {[]Coverage{killed(7 * h), start(5*h, true, 1), killed(3 * h)}, "[7h0m0s]"},
		"killed, runs and dropped":       {[]Coverage{killed(7 * h), start(5*h, false, 1)}, "[7h0m0s]"},
		"left and left, of two starters": {[]Coverage{whole(7 * h), whole(5 * h)}, "[7h0m0s 5h0m0s]"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := fmt.Sprint(ended(tt.all, now)); got != tt.want {
				t.Errorf("removed are %s, want %s", got, tt.want)
			}
		})
	}
}

// TestB21_LossesAreKnown: counts that Redis has lost make the counts of their partition begin anew. Batches
// that are sent again because Redis lost the latest ones do not.
func TestB21_LossesAreKnown(t *testing.T) {
	day := 24 * time.Hour
	for name, tt := range map[string]struct {
		spoil  func(*memory)
		number uint64 // of the next batch
		oldest bool
		lost   bool
		asks   bool // the next batch is a question
	}{
		"nothing, and it asks":            {func(*memory) {}, 2, true, false, true},
		"batches that nobody holds, asks": {func(m *memory) { m.seen[seenKey(1, "one")] = 1 }, 2, true, true, true},
		"a batch that it holds, asks":     {func(m *memory) { m.seen[seenKey(1, "one")] = 1 }, 2, false, false, true},
		"nothing":                         {func(*memory) {}, 3, false, false, false},
		"nothing, and the validator":      {func(*memory) {}, 3, true, false, false},
		"the latest batch, sent again":    {func(m *memory) { m.seen[seenKey(1, "one")] = 1 }, 2, true, false, false},
		"batches that nobody holds":       {func(m *memory) { m.seen[seenKey(1, "one")] = 1 }, 3, true, true, false},
		"all batches":                     {func(m *memory) { clear(m.seen); clear(m.apps) }, 3, true, true, false},
		"everything": {func(m *memory) {
			clear(m.seen)
			clear(m.apps)
			clear(m.since)
		}, 3, true, true, false},
		"the mark, and nothing was added": {func(m *memory) { clear(m.since) }, 0, false, true, false},
		"a record": {func(m *memory) {
			for id, counts := range m.apps {
				counts.Running = []byte("damaged")
				m.apps[id] = counts
			}
		}, 3, false, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, l *Ledger, storage *memory) {
				one := usage.Count{AppID: appIn(1, 0), Scope: 1, Reason: policy.TokenMissing, Minute: time.Now(), N: 1}
				for number := range uint64(2) {
					check.Must(l.Add(t.Context(), "one", batch(number+1, number == 0, one)))(t)
				}
				time.Sleep(day)
				storage.mu.Lock()
				tt.spoil(storage)
				storage.mu.Unlock()
				if tt.number > 0 {
					next := batch(tt.number, tt.oldest, one)
					if tt.asks {
						next.Counts = nil
					}
					got := check.Must(l.Add(t.Context(), "one", next))(t)
					if got != tt.number && (!tt.asks || tt.oldest) {
						t.Errorf("counted are %d", got)
					}
				}
				since := check.Must(l.App(t.Context(), one.AppID))(t).Counted().Since
				if lost := time.Since(since) < time.Minute; lost != tt.lost {
					t.Errorf("the counts begin %v ago", time.Since(since))
				}
			})
		})
	}
}
