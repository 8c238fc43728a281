package fleet

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/countersign/countersign/pkg/record"
)

// TestB24_Notices: the registry calls notice for a partition when a validator's report shows that the store
// may have lost changes there. It repeats the call while that lasts.
func TestB24_Notices(t *testing.T) {
	for _, tt := range []struct {
		name   string
		report func(f *fixture, a *authority, v *reporter)
		after  time.Duration // when the first notice must come; negative for never
	}{
		{"the validator is at the authority's cursor", func(_ *fixture, _ *authority, v *reporter) { _ = v.report(nil) }, -1},
		{"the validator is behind the authority", func(_ *fixture, a *authority, v *reporter) { a.past.move(0, at(1, 9)) }, -1},
		{"the validator is ahead until the authority's next read", func(_ *fixture, a *authority, v *reporter) {
			time.Sleep(10 * time.Millisecond)
			_ = v.report(to(at(1, 2)))
			time.Sleep(100 * time.Millisecond)
			a.past.move(0, at(1, 2))
		}, -1},
		{"the validator is ahead, the authority cannot read the store", func(_ *fixture, a *authority, v *reporter) {
			a.past.mu.Lock()
			a.past.reads = time.Now()
			a.past.mu.Unlock()
			_ = v.report(to(at(1, 2)))
		}, -1},
		{"it stays ahead", func(_ *fixture, _ *authority, v *reporter) { _ = v.report(to(at(1, 2))) }, 500 * time.Millisecond},
		{
			"it stays an epoch ahead", func(_ *fixture, _ *authority, v *reporter) { _ = v.report(to(at(2, 2))) },
			500 * time.Millisecond,
		},
		{"the validator is in another history of the same epoch", func(_ *fixture, a *authority, v *reporter) {
			a.past.move(0, at(1, 9))
			_ = v.report(to(off(1, 5)))
		}, 0},
		{"the validator is in another history of an earlier epoch", func(_ *fixture, a *authority, v *reporter) {
			a.past.move(0, at(2, 9))
			_ = v.report(to(off(1, 5)))
		}, -1},
		{"the validator reports orphans", func(_ *fixture, a *authority, v *reporter) {
			u := v.next(nil)
			u.orphans = map[int][]record.Tag{0: {{1}}}
			_ = a.Registry.report(v.stream, u)
		}, 0},
		{"another authority's validator stays ahead", func(f *fixture, _ *authority, _ *reporter) {
			f.validator("w", 0).mustJoin(f.authority(), to(at(1, 2)))
		}, 2 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				a := f.authority()
				v := f.validator("v", 0).mustJoin(a, first())
				tt.report(f, a, v)
				count := func() int {
					a.mu.Lock()
					defer a.mu.Unlock()
					return a.noticed[0]
				}
				if tt.after != 0 && count() > 0 {
					t.Error("got a notice at once, want it later or never")
				}
				time.Sleep(max(tt.after, 0) + 2*sweepInterval)
				first := count()
				alive(t, 5*time.Second, v)
				if noticed := first > 0; noticed != (tt.after >= 0) || noticed && count() <= first {
					t.Errorf("got %d notices at first and %d after 5 s; want repeated ones, or none if never", first, count())
				}
			})
		})
	}
}

// TestB24_OrphansAreCounted: the list shows how many orphans a validator has reported in all partitions.
func TestB24_OrphansAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		a := f.authority()
		v := f.validator("v", 0).mustJoin(a, first())
		for _, tt := range []struct {
			orphans map[int][]record.Tag
			want    uint32
		}{
			{map[int][]record.Tag{0: {{1}, {2}}, 1: {{3}}}, 3},
			{map[int][]record.Tag{0: {{1}}}, 2},
			{map[int][]record.Tag{0: nil, 1: nil}, 0},
		} {
			u := v.next(nil)
			u.orphans = tt.orphans
			_ = a.Registry.report(v.stream, u)
			want := tt.want
			if got := a.List()[0].GetOrphanCount(); got != want {
				t.Errorf("listed orphans: got %d, want %d", got, want)
			}
		}
	})
}

// TestSilentDivergence: a validator's data that differs from the authority's data at the same cursor is
// counted once for each cursor.
func TestSilentDivergence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		a := f.authority()
		v := f.validator("v", 0).mustJoin(a, nil)
		good := f.codec.SealSum(0, record.Sum{}).MAC
		send := func(cursor record.Cursor, digest [32]byte) {
			u := v.next(to(cursor))
			u.digests[0] = digest
			_ = a.Registry.report(v.stream, u)
			time.Sleep(3 * time.Second)
		}
		send(at(1, 1), good)
		a.past.move(0, at(1, 3))
		send(at(1, 2), [32]byte{1}) // the authority is beyond this cursor, so it compares nothing
		send(at(1, 3), good)
		if got := testutil.ToFloat64(a.metrics.divergences); got != 0 {
			t.Errorf("before the data differs: got %v divergences, want 0", got)
		}
		send(at(1, 4), [32]byte{1})
		a.past.move(0, at(1, 4)) // the authority reaches the cursor after the report
		time.Sleep(3 * time.Second)
		if got := testutil.ToFloat64(a.metrics.divergences); got != 1 {
			t.Errorf("after the data differs: got %v divergences, want 1", got)
		}
	})
}
