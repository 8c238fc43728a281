package fleet

import (
	"errors"
	"maps"
	"testing"
	"testing/synctest"
	"time"
)

// TestB24_StateOf: a validator that has not shown a change is Pending while its lease runs. After that its
// staleness bound decides between Lost, Pending and Fenced.
func TestB24_StateOf(t *testing.T) {
	for _, tt := range []struct {
		name                       string
		silent, fencedAfter, since time.Duration
		want                       State
	}{
		{"the lease runs, no bound", 0, 0, time.Hour, Pending},
		{"the last moment of the lease, no bound", Lease, 0, time.Hour, Pending},
		{"the lease has expired, no bound", Lease + 1, 0, time.Hour, Lost},
		{"the lease has expired, bound as long as a lease", Lease + 1, Lease, time.Hour, Lost},
		{"silent for an hour, bound longer than a lease", time.Hour, time.Minute, time.Hour, Lost},
		{"the lease has expired, short bound, change older than the bound", Lease + 1, 2 * time.Second, time.Hour, Fenced},
		{"the lease has expired, short bound, change newer than the bound", Lease + 1, 2 * time.Second, time.Second, Pending},
		{"silent for an hour, short bound, change as old as the bound", time.Hour, 2 * time.Second, 2 * time.Second, Pending},
		{"the lease has expired, short bound, change just older", Lease + 1, 2 * time.Second, 2*time.Second + 1, Fenced},
		{"the lease has expired, bound just shorter than a lease", Lease + 1, Lease - 1, time.Hour, Fenced},
		{"the lease runs, short bound", time.Second, time.Second, time.Hour, Pending},
	} {
		if got := stateOf(tt.silent, tt.fencedAfter, tt.since); got != tt.want {
			t.Errorf("%s: got state %d, want %d", tt.name, got, tt.want)
		}
	}
}

// TestB24_Merge: a receipt of several changes has, for each validator, its smallest state.
func TestB24_Merge(t *testing.T) {
	now := time.Now()
	one := Receipt{Complete: true, Committed: now, Entries: []Entry{
		{ID: "a", State: Applied, Revision: 5, Reported: now},
		{ID: "b", State: Applied, Revision: 5, Reported: now.Add(time.Second)},
		{ID: "c", State: Fenced, Revision: 1, Reported: now},
		{ID: "d", State: Lost, Revision: 1, Reported: now},
	}}
	two := Receipt{Complete: false, Committed: now.Add(time.Minute), Entries: []Entry{
		{ID: "a", State: Pending, Revision: 2, Reported: now},
		{ID: "b", State: Applied, Revision: 9, Reported: now},
		{ID: "c", State: Applied, Revision: 7, Reported: now},
		{ID: "d", State: Fenced, Revision: 1, Reported: now},
	}}
	got := merge([]Receipt{one, two})
	want := []Entry{
		{ID: "a", State: Pending, Revision: 2, Reported: now},
		{ID: "b", State: Applied, Revision: 5, Reported: now.Add(time.Second)},
		{ID: "c", State: Fenced, Revision: 1, Reported: now},
		{ID: "d", State: Lost, Revision: 1, Reported: now},
	}
	if got.Complete || !got.Committed.Equal(two.Committed) || len(got.Entries) != len(want) {
		t.Fatalf("merged receipt: got %+v, want it incomplete, with the later commit time and 4 entries", got)
	}
	for i := range want {
		if got.Entries[i] != want[i] {
			t.Errorf("merged entry: got %+v, want %+v", got.Entries[i], want[i])
		}
	}
	if all := merge([]Receipt{one, one}); !all.Complete {
		t.Errorf("two complete receipts: got %+v, want a complete one", all)
	}
}

// TestB24_Receipts: which validators a receipt names, in which states, and when it arrives. Two validators
// report to one authority when the wait begins. The caller waits for at most 30 s.
func TestB24_Receipts(t *testing.T) {
	change := at(1, 2)
	const bound = 2 * time.Second
	for _, tt := range []struct {
		name string
		// during runs while a caller waits for the change, which the authority has applied.
		during   func(f *fixture, a *authority, v1, v2 *reporter)
		complete bool
		want     map[string]State
		within   time.Duration
	}{
		{"both validators apply the change", func(_ *fixture, _ *authority, v1, v2 *reporter) {
			time.Sleep(3 * time.Millisecond)
			_ = v1.report(to(change))
			time.Sleep(3 * time.Millisecond)
			_ = v2.report(to(change))
		}, true, map[string]State{"v1": Applied, "v2": Applied}, 10 * time.Millisecond},
		{"one validator reports a later revision that includes the change", func(_ *fixture, a *authority, v1, v2 *reporter) {
			a.past.move(0, at(1, 9))
			_ = v1.report(to(at(1, 9)))
			_ = v2.report(to(change))
		}, true, map[string]State{"v1": Applied, "v2": Applied}, 0},
		{"one validator never applies the change", func(f *fixture, _ *authority, v1, v2 *reporter) {
			_ = v1.report(to(change))
			alive(f.t, time.Minute, v1, v2)
		}, false, map[string]State{"v1": Applied, "v2": Pending}, 30 * time.Second},
		{"one validator is at the same revision of another history", func(f *fixture, _ *authority, v1, v2 *reporter) {
			_, _ = v1.report(to(change)), v2.report(to(off(1, 2)))
			alive(f.t, time.Minute, v1, v2)
		}, false, map[string]State{"v1": Applied, "v2": Pending}, 30 * time.Second},
		{"one validator is at a later revision of another history", func(f *fixture, a *authority, v1, v2 *reporter) {
			_, _ = v1.report(to(change)), v2.report(to(off(1, 3)))
			alive(f.t, 5*time.Second, v1, v2)
			a.past.move(0, at(1, 9)) // this authority's history now shows that off(1, 3) is of another one
			alive(f.t, time.Minute, v1, v2)
		}, false, map[string]State{"v1": Applied, "v2": Pending}, 30 * time.Second},
		{"one validator is ahead until this authority catches up", func(_ *fixture, a *authority, v1, v2 *reporter) {
			_, _ = v1.report(to(change)), v2.report(to(at(1, 3)))
			time.Sleep(40 * time.Millisecond)
			a.past.move(0, at(1, 3))
		}, true, map[string]State{"v1": Applied, "v2": Applied}, 40 * time.Millisecond},
		{"one validator is in the next epoch, which includes the change", func(_ *fixture, a *authority, v1, v2 *reporter) {
			a.past.mu.Lock()
			a.past.forks[1] = 2
			a.past.mu.Unlock()
			_, _ = v1.report(to(change)), v2.report(to(at(2, 50)))
			time.Sleep(40 * time.Millisecond)
			a.past.move(0, at(2, 51))
		}, true, map[string]State{"v1": Applied, "v2": Applied}, 40 * time.Millisecond},
		{"a third validator joins during the wait", func(f *fixture, a *authority, v1, v2 *reporter) {
			_ = v1.report(to(change))
			v3 := f.validator("v3", 0).mustJoin(a, nil)
			_ = v2.report(to(change))
			time.Sleep(100 * time.Millisecond)
			_ = v3.report(to(at(1, 2)))
		}, true, map[string]State{"v1": Applied, "v2": Applied, "v3": Applied}, 100 * time.Millisecond},
		{"one validator leaves during the wait", func(_ *fixture, a *authority, v1, v2 *reporter) {
			_ = v1.report(to(change))
			time.Sleep(time.Second)
			v2.hangUp()
			_ = a.leave(a.t.Context(), v2.next(nil))
		}, true, map[string]State{"v1": Applied}, time.Second},
		{"one validator applies the change and goes silent", func(f *fixture, _ *authority, v1, v2 *reporter) {
			_ = v1.report(to(change))
			alive(f.t, 15*time.Second, v2)
			_ = v2.report(to(change))
		}, true, map[string]State{"v1": Applied, "v2": Applied}, 15 * time.Second},
		{"one validator without a bound goes silent first", func(f *fixture, _ *authority, v1, _ *reporter) {
			_ = v1.report(to(change))
			alive(f.t, time.Minute, v1)
		}, false, map[string]State{"v1": Applied, "v2": Lost}, 30 * time.Second},
		{"a validator with a short bound goes silent first", func(f *fixture, a *authority, v1, v2 *reporter) {
			v3 := f.validator("v3", bound).mustJoin(a, first())
			v3.hangUp()
			_, _ = v1.report(to(change)), v2.report(to(change))
			alive(f.t, time.Minute, v1, v2)
		}, true, map[string]State{"v1": Applied, "v2": Applied, "v3": Fenced}, Lease + sweepInterval},
		{"a validator with a bound of a lease goes silent first", func(f *fixture, a *authority, v1, v2 *reporter) {
			f.validator("v3", Lease).mustJoin(a, first()).hangUp()
			_, _ = v1.report(to(change)), v2.report(to(change))
			alive(f.t, time.Minute, v1, v2)
		}, false, map[string]State{"v1": Applied, "v2": Applied, "v3": Lost}, 30 * time.Second},
		{"one validator applies the change, restarts, and loads the store", func(f *fixture, a *authority, v1, v2 *reporter) {
			_ = v1.report(to(change))
			time.Sleep(100 * time.Millisecond)
			again := f.validator("v1", 0).mustJoin(a, nil)
			_ = v2.report(to(change))
			time.Sleep(400 * time.Millisecond)
			_ = again.report(to(at(1, 2)))
		}, true, map[string]State{"v1": Applied, "v2": Applied}, 500 * time.Millisecond},
		{"one validator becomes LOST during the wait and comes back", func(f *fixture, a *authority, v1, v2 *reporter) {
			_ = v1.report(to(change))
			v2.hangUp()
			alive(f.t, 12*time.Second, v1)
			v2.mustJoin(a, first())
			_ = v2.report(to(change))
		}, true, map[string]State{"v1": Applied, "v2": Applied}, 12 * time.Second},
		{"one validator becomes LOST during the wait and is forgotten", func(f *fixture, a *authority, v1, v2 *reporter) {
			_ = v1.report(to(change))
			v2.hangUp()
			alive(f.t, 12*time.Second, v1)
			if err := a.Forget(a.t.Context(), "v2", audited); err != nil {
				f.t.Error(err)
			}
		}, true, map[string]State{"v1": Applied}, 12 * time.Second},
		{"this authority missed that a validator joined another authority", func(f *fixture, _ *authority, v1, v2 *reporter) {
			f.shared.mu.Lock()
			f.shared.deaf = true
			f.shared.mu.Unlock()
			other := f.authority()
			v3 := f.validator("v3", 0).mustJoin(other, nil)
			_, _ = v1.report(to(change)), v2.report(to(change))
			time.Sleep(10 * time.Millisecond)
			_ = v3.report(to(change))
		}, true, map[string]State{"v1": Applied, "v2": Applied, "v3": Applied}, 2 * exchangeInterval},
		{"all apply the change, but the hash cannot be read", func(f *fixture, _ *authority, v1, v2 *reporter) {
			f.shared.mu.Lock()
			f.shared.failing = true
			f.shared.mu.Unlock()
			_, _ = v1.report(to(change)), v2.report(to(change))
		}, false, map[string]State{"v1": Applied, "v2": Applied}, 30 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				a := f.authority()
				v1, v2 := f.validator("v1", 0).mustJoin(a, first()), f.validator("v2", 0).mustJoin(a, first())
				a.past.move(0, change)
				result := a.wait(change, 30*time.Second)
				tt.during(f, a, v1, v2)
				receipt, took, err := result()
				if err != nil || receipt.Complete != tt.complete || !maps.Equal(statesOf(receipt), tt.want) {
					t.Errorf("complete %t, %v, %v; want %t, %v", receipt.Complete, statesOf(receipt), err, tt.complete, tt.want)
				}
				if took > tt.within {
					t.Errorf("the receipt took %v, want at most %v", took, tt.within)
				}
				for _, e := range receipt.Entries {
					if e.State == Applied && e.Reported.After(time.Now()) || e.State == Applied && e.Revision < 2 {
						t.Errorf("applied entry: got %+v, want a report in the past and revision 2 or later", e)
					}
				}
			})
		})
	}
}

// TestB24_LostOnesAreNotWaitedFor: a receipt names the validators that were LOST when the wait began, and the
// wait does not wait for them. It waits for all other validators, and for a LOST one that comes back.
func TestB24_LostOnesAreNotWaitedFor(t *testing.T) {
	change, ghost := at(1, 2), func(f *fixture) {
		_ = f.shared.Write(f.t.Context(),
			map[string][]byte{"ghost": []byte("garbage")})
	}
	const soon = 2 * time.Second
	for _, tt := range []struct {
		name string
		// before runs 12 s before a caller waits. during runs while it waits; nil means that v1 applies the
		// change before that. A validator that reports nothing after before is LOST when the wait begins.
		before   func(f *fixture, a *authority)
		during   func(f *fixture, a *authority, v1, v2 *reporter)
		complete bool
		want     map[string]State
		after    time.Duration
	}{
		{"one validator is LOST, the other has the change", nil, nil, false, map[string]State{"v1": Applied, "v2": Lost}, 0},
		{"one is LOST, the other applies the change in the wait", nil, func(_ *fixture, _ *authority, v1, _ *reporter) {
			time.Sleep(soon)
			_ = v1.report(to(change))
		}, false, map[string]State{"v1": Applied, "v2": Lost}, soon},
		{"one validator is LOST, the other never applies the change", nil, func(f *fixture, _ *authority, v1, _ *reporter) {
			alive(f.t, time.Minute, v1)
		}, false, map[string]State{"v1": Pending, "v2": Lost}, 30 * time.Second},
		{
			"a field of the hash does not verify", func(f *fixture, _ *authority) { ghost(f) }, nil, false,
			map[string]State{"v1": Applied, "v2": Lost, "ghost": Lost},
			0,
		},
		{"a silent validator with a bound is fenced during the wait", func(f *fixture, a *authority) {
			f.validator("v3", soon).mustJoin(a, first()).hangUp()
		}, nil, false, map[string]State{"v1": Applied, "v2": Lost, "v3": Fenced}, soon + sweepInterval},
		{"the lease of a third validator expires during the wait", nil, func(f *fixture, a *authority, v1, _ *reporter) {
			v4 := f.validator("v4", 0).mustJoin(a, first())
			_ = v1.report(to(change))
			v4.hangUp()
			alive(f.t, time.Minute, v1)
		}, false, map[string]State{"v1": Applied, "v2": Lost, "v4": Lost}, 30 * time.Second},
		{"the LOST validator comes back and applies the change", nil, func(_ *fixture, a *authority, v1, v2 *reporter) {
			v2.mustJoin(a, first())
			_ = v1.report(to(change))
			time.Sleep(soon)
			_ = v2.report(to(change))
		}, true, map[string]State{"v1": Applied, "v2": Applied}, soon},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				a := f.authority()
				v1, v2 := f.validator("v1", 0).mustJoin(a, first()), f.validator("v2", 0).mustJoin(a, first())
				v2.hangUp()
				if tt.before != nil {
					tt.before(f, a)
				}
				alive(t, 12*time.Second, v1)
				a.past.move(0, change)
				if tt.during == nil {
					_ = v1.report(to(change))
				}
				result := a.wait(change, 30*time.Second)
				if tt.during != nil {
					tt.during(f, a, v1, v2)
				}
				receipt, took, err := result()
				if err != nil || receipt.Complete != tt.complete || !maps.Equal(statesOf(receipt), tt.want) {
					t.Errorf("complete %t, %v, %v; want %t, %v", receipt.Complete, statesOf(receipt), err, tt.complete, tt.want)
				}
				if took < tt.after || took > tt.after+sweepInterval {
					t.Errorf("the receipt took %v, want %v", took, tt.after)
				}
			})
		})
	}
}

// TestB24_ReportTime: an entry has the time and revision of the report in which its validator first showed
// the change. Later reports, also of other validators, do not alter it.
func TestB24_ReportTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		a := f.authority()
		v1, v2 := f.validator("v1", 0).mustJoin(a, first()), f.validator("v2", 0).mustJoin(a, first())
		a.past.move(0, at(1, 2))
		began := time.Now()
		result := a.wait(at(1, 2), time.Minute)
		time.Sleep(5 * time.Millisecond)
		_ = v1.report(to(at(1, 2)))
		a.past.move(0, at(1, 3))
		time.Sleep(5 * time.Millisecond)
		_ = v1.report(to(at(1, 3)))
		time.Sleep(5 * time.Millisecond)
		_ = v2.report(to(at(1, 3)))
		receipt, _, _ := result()
		for i, want := range []Entry{
			{ID: "v1", State: Applied, Revision: 2, Reported: began.Add(5 * time.Millisecond)},
			{ID: "v2", State: Applied, Revision: 3, Reported: began.Add(15 * time.Millisecond)},
		} {
			if got := receipt.Entries[i]; got.ID != want.ID || got.Revision != want.Revision || !got.Reported.Equal(want.Reported) {
				t.Errorf("entry: got %+v, want %+v", got, want)
			}
		}
	})
}

// TestB24_LostChange: Wait returns ErrLost as soon as this authority's history shows that the store has lost
// the change.
func TestB24_LostChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		a := f.authority()
		f.validator("v1", 0).mustJoin(a, first())
		a.past.move(0, at(1, 9))
		if _, took, err := a.wait(off(1, 5), time.Minute)(); !errors.Is(err, ErrLost) || took != 0 {
			t.Errorf("a change of another history: got %v after %v, want ErrLost at once", err, took)
		}
		result := a.wait(at(1, 12), time.Minute)
		time.Sleep(time.Second)
		a.past.move(0, at(2, 100)) // the history does not show where epoch 1 ended
		if r, took, err := result(); !errors.Is(err, ErrLost) || took > time.Second || r.Complete {
			t.Errorf("a change that is lost during the wait: got %v after %v, want ErrLost after 1 s", err, took)
		}
	})
}

// TestB24_NobodyIsNotComplete: in a fleet without validators the receipt is not complete. The wait ends when
// a validator with the change joins.
func TestB24_NobodyIsNotComplete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		a := f.authority()
		result := a.wait(at(1, 1), 10*time.Second)
		time.Sleep(3 * time.Second)
		f.validator("v1", 0).mustJoin(a, first())
		if r, took, err := result(); err != nil || !r.Complete || took != 3*time.Second {
			t.Errorf("got %+v, %v after %v, want a complete receipt after 3 s", r, err, took)
		}
	})
}

// TestB24_OneThatIsMissingHidesNobody: a receipt shows the validators that had the change before the wait,
// although a check of the wait stops at the first blocker. Members are checked in random order, so the test
// repeats.
func TestB24_OneThatIsMissingHidesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		a := f.authority()
		a.past.move(0, at(1, 2))
		want := map[string]State{"late": Pending}
		f.validator("late", 0).mustJoin(a, first())
		for _, id := range []string{"v1", "v2", "v3", "v4"} {
			_ = f.validator(id, 0).mustJoin(a, first()).report(to(at(1, 2)))
			want[id] = Applied
		}
		for range 20 {
			if r, _, _ := a.wait(at(1, 2), time.Millisecond)(); r.Complete || !maps.Equal(statesOf(r), want) {
				t.Fatalf("got %+v, want late PENDING and the others APPLIED", r)
			}
		}
	})
}
