package ledger

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/countersign/countersign/pkg/policy"
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

// TestB21_Coverage: what was stored is read, old entries are removed, and a name that looks like the end of
// counts is none.
func TestB21_Coverage(t *testing.T) {
	inBubble(t, func(t *testing.T, l *Ledger, storage *memory) {
		now := time.Now().UTC().Truncate(time.Millisecond)
		want := Coverage{`x,"final":true`, "i2", now, now.Add(time.Hour), false, 7}
		for _, c := range []Coverage{want, {"w", "i1", now, time.Time{}, true, 0}} {
			if err := l.Cover(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		}
		if held, _ := storage.Covered(t.Context()); strings.Contains(held["i2"], isFinal) ||
			!strings.Contains(held["i1"], isFinal) {
			t.Errorf("%v", held)
		}
		_ = storage.Cover(t.Context(), "i3", []byte("damaged"), isFinal)
		if all, err := l.Coverage(t.Context()); err != nil || len(all) != 2 || all[1] != want || !all[0].Final {
			t.Errorf("%+v, %v", all, err)
		}
		time.Sleep(35*24*time.Hour + time.Minute)
		if all, _ := l.Coverage(t.Context()); len(all) != 1 || all[0] != want {
			t.Errorf("%+v", all)
		}
		time.Sleep(4 * time.Hour)
		if held, _ := storage.Covered(t.Context()); len(held) != 0 {
			t.Errorf("old entries stay: %v", held)
		}
	})
}
