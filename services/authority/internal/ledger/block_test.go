package ledger

import (
	"maps"
	"math"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/usage"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const app = "pezwd5bre2xb"

// someCounts draws counts of one app within some days.
func someCounts(t *rapid.T, label string) []usage.Count {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) usage.Count {
		return usage.Count{
			AppID: app,
			TokenID: rapid.SampledFrom([]string{"", "tok_aaaaaaaaaaaaaaaa", "tok_7zzzzzzzzzzzzzzz", "other", "tok_short"}).
				Draw(t, "token"),
			Scope:    policy.Scope(rapid.IntRange(1, 4).Draw(t, "scope")),
			Reason:   policy.Reason(rapid.IntRange(2, 11).Draw(t, "reason")),
			Enforced: rapid.Bool().Draw(t, "enforced"),
			Minute:   noon.Add(time.Duration(rapid.IntRange(-3*24*60, 60).Draw(t, "minute")) * time.Minute),
			N:        rapid.OneOf(rapid.Uint64Range(1, 300), rapid.Just(uint64(math.MaxUint64))).Draw(t, "n"),
		}
	}), 0, 40).Draw(t, label)
}

// TestB21_PackedCountsAreTheSame: what is packed is unpacked, for hours and days.
func TestB21_PackedCountsAreTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := hourly(someCounts(t, "counts"))
		for minutes, b := range map[int64]block{minutesOfHour: b, hoursOfDay * minutesOfHour: b.byDay()} {
			b = b.without(hourOf(noon.Add(-30*time.Hour)), func(Kind) bool { return true })
			got, err := unpack(b.pack(minutes), minutes)
			if err != nil || len(got) != len(b) {
				t.Fatalf("%v: %d series of %d", err, len(got), len(b))
			}
			for i := range b {
				if len(b[i].points) == 0 {
					b[i].points = nil
				}
				if !reflect.DeepEqual(got[i], b[i]) {
					t.Fatalf("got %+v, want %+v", got[i], b[i])
				}
			}
		}
	})
}

// TestB21_DamagedRecords: bytes that nobody packed are an error, or counts that can be packed. They cost no
// more memory than they have bytes.
func TestB21_DamagedRecords(t *testing.T) {
	for name, raw := range map[string][]byte{
		"another version":    {packVersion + 1, 0, 0},
		"cut":                {packVersion},
		"many tokens":        {packVersion, 0xff, 0xff, 0xff, 0xff, 0x0f, 0},
		"many series":        {packVersion, 0, 0xff, 0xff, 0xff, 0xff, 0x0f, 0},
		"no such token":      {packVersion, 0, 1, 1, 2, 2, 0, 0},
		"rest":               {packVersion, 0, 0, 0},
		"a point of nothing": {packVersion, 0, 1, 0, 2, 2, 1, 2, 0, 0},
		"a kind twice":       {packVersion, 0, 2, 0, 2, 2, 0, 0, 0, 2, 2, 0, 0},
	} {
		if b, err := unpack(raw, minutesOfHour); err == nil {
			t.Errorf("%s: %+v, want an error", name, b)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		raw := hourly(someCounts(t, "counts")).pack(minutesOfHour)
		if len(raw) > 0 {
			for range rapid.IntRange(1, 3).Draw(t, "changes") {
				raw[rapid.IntRange(0, len(raw)-1).Draw(t, "at")] = rapid.Byte().Draw(t, "byte")
			}
			raw = raw[:rapid.IntRange(0, len(raw)).Draw(t, "length")]
		}
		b, err := unpack(raw, minutesOfHour)
		if err != nil {
			return
		}
		again, err := unpack(b.pack(minutesOfHour), minutesOfHour)
		if err != nil || len(again) != len(b) {
			t.Fatalf("%+v cannot be packed: %v", b, err)
		}
	})
}

// naive adds counts up by kind and period.
func naive(counts []usage.Count, period time.Duration) map[Kind]map[int64]uint64 {
	all := map[Kind]map[int64]uint64{}
	for _, c := range counts {
		k := Kind{c.TokenID, c.Scope, c.Reason, c.Enforced}
		if all[k] == nil {
			all[k] = map[int64]uint64{}
		}
		at := floorDiv(c.Minute.Unix(), int64(period/time.Second))
		all[k][at] = usage.AddUp(all[k][at], c.N)
	}
	return all
}

func (b block) asMap() map[Kind]map[int64]uint64 {
	all := map[Kind]map[int64]uint64{}
	for _, s := range b {
		for _, p := range s.points {
			if all[s.Kind] == nil {
				all[s.Kind] = map[int64]uint64{}
			}
			all[s.Kind][p.period] += p.n
		}
	}
	return all
}

// TestB21_NothingIsLostWhenHoursAreMoved: whatever the order in which counts come and hours are moved, hours
// and days have all of them.
func TestB21_NothingIsLostWhenHoursAreMoved(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var a account
		var all []usage.Count
		has := func(string) bool { return true }
		for i := range rapid.IntRange(1, 5).Draw(t, "batches") {
			counts := someCounts(t, "counts")
			for j := range counts {
				counts[j].N = min(counts[j].N, 1000)
			}
			all = append(all, counts...)
			a.running = a.running.plus(hourly(counts))
			if first := hourOf(noon) - 4 + int64(i); a.running.moves(first) {
				a = a.settle(first, has)
			}
			if a.running.moves(hourOf(noon) - 4 + int64(i)) {
				t.Fatal("an hour was not moved")
			}
		}
		kept := hourOf(noon) - 40
		recent := func(hours map[Kind]map[int64]uint64) map[Kind]map[int64]uint64 {
			for k, points := range hours {
				maps.DeleteFunc(points, func(at int64, _ uint64) bool { return at < kept })
				if len(points) == 0 {
					delete(hours, k)
				}
			}
			return hours
		}
		got, want := recent(a.hours.plus(a.running).asMap()), recent(naive(all, time.Hour))
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("by hour: got %v, want %v", got, want)
		}
		if got, want := a.days.plus(a.running.byDay()).asMap(), naive(all, 24*time.Hour); !reflect.DeepEqual(got, want) {
			t.Fatalf("by day: got %v, want %v", got, want)
		}
		latest := map[LastUse]bool{}
		for _, u := range (History{account: a, now: noon}).LastUses() {
			latest[u] = true
		}
		for _, c := range all {
			later := false
			for _, other := range all {
				later = later || other.TokenID == c.TokenID && other.Scope == c.Scope && other.Minute.After(c.Minute)
			}
			if c.TokenID != "" && !later && !latest[LastUse{c.TokenID, c.Scope, c.Minute.UTC()}] {
				t.Fatalf("the last use of %s at %v is missing: %v", c.TokenID, c.Minute, latest)
			}
		}
	})
}

// TestB21_WhatIsKept: hours for two days, days for 35, and the last use of a token for as long as the app has
// the token (B22).
func TestB21_WhatIsKept(t *testing.T) {
	kind := Kind{"tok_aaaaaaaaaaaaaaaa", 1, policy.TokenValid, true}
	gone := kind
	gone.TokenID = "tok_bbbbbbbbbbbbbbbb"
	at := func(k Kind, before time.Duration, n uint64) usage.Count {
		return usage.Count{
			AppID: app, TokenID: k.TokenID, Scope: k.Scope, Reason: k.Reason, Enforced: k.Enforced,
			Minute: noon.Add(-before), N: n,
		}
	}
	day := 24 * time.Hour
	var a account
	a.running = hourly([]usage.Count{at(kind, 36*day, 1), at(gone, 36*day, 1), at(kind, 0, 0)})
	a = a.settle(hourOf(noon), func(token string) bool { return token == kind.TokenID })
	h := History{account: a, now: noon}
	if sums, _ := h.Sums(noon.Add(-100 * day)); len(sums) > 0 {
		t.Errorf("sums of 36 days ago: %v", sums)
	}
	if uses := h.LastUses(); len(uses) != 1 || uses[0] != (LastUse{kind.TokenID, 1, noon.Add(-36 * day)}) {
		t.Errorf("last uses %v", uses)
	}
	a.running = a.running.plus(hourly([]usage.Count{
		at(kind, 0, 1), at(kind, 59*time.Minute, 10), at(kind, 47*time.Hour, 100), at(kind, 49*time.Hour, 1000),
		at(kind, 34*day, 10_000),
	}))
	a = a.settle(hourOf(noon), func(string) bool { return true })
	h = History{account: a, now: noon.Add(30 * time.Minute)}
	for _, tt := range []struct {
		window time.Duration
		want   uint64
		from   time.Time
	}{
		{time.Minute, 1, noon},
		{time.Hour, 11, noon.Add(-time.Hour)},
		{48 * time.Hour, 111, noon.Add(-48 * time.Hour)},
		{3 * day, 1111, noon.Add(-3*day - 12*time.Hour)},
		{35 * day, 11_111, noon.Add(-35*day - 12*time.Hour)},
	} {
		sums, from := h.Sums(h.now.Add(-tt.window))
		if len(sums) != 1 || sums[0] != (Sum{kind, tt.want}) || !from.Equal(tt.from) {
			t.Errorf("%v: %v since %v, want %d since %v", tt.window, sums, from, tt.want, tt.from)
		}
	}
	if uses := h.LastUses(); len(uses) != 1 || !uses[0].Minute.Equal(noon) {
		t.Errorf("last uses %v", uses)
	}
	if sums, from := (History{}).Sums(noon); sums != nil || !from.Equal(noon) || (History{}).LastUses() != nil {
		t.Error("the zero History has something")
	}
}
