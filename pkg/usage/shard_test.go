package usage

import (
	"strconv"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/policy"
)

// B21: an addition to a cell that was found before its count was taken, dropped or moved is counted in the
// next Take.
func TestB21_LateAdditionsAreNotLost(t *testing.T) {
	d := policy.Decision{Reason: policy.TokenValid, TokenID: "tok_a"}
	spot := SpotFor("app", d.TokenID)
	for _, tt := range []struct {
		name  string
		taken uint64
		away  func(c *Counter, s *shard)
	}{
		{"taken", 1, func(c *Counter, _ *shard) { c.Take(time.UnixMilli(minuteMillis), 1) }},
		{"taken with all", 1, func(c *Counter, _ *shard) { c.TakeAll(1) }},
		{"dropped", 1, func(_ *Counter, s *shard) { s.giveUp(0); s.drop() }},
		{"moved", 0, func(_ *Counter, s *shard) { s.grow(s.tables[0]) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var c Counter
			s := &c.shards[spot>>shardShift]
			c.Add(0, "app", 1, d)
			seen := s.current.Load()
			tt.away(&c, s)
			s.current.Store(seen)
			for range 3 {
				c.Add(0, "app", 1, d)
			}
			if got := c.TakeAll(10); len(got) != 1 || got[0].N != 4-tt.taken || got[0].TokenID != d.TokenID {
				t.Errorf("%+v, want %d", got, 4-tt.taken)
			}
		})
	}
}

// The number of entries is bounded, however many tokens are seen. A minute with too many entries keeps the
// ones that it has. Entries of the next minute replace them one by one.
func TestEntriesAreBounded(t *testing.T) {
	const kinds, few = maxOfOne * 5 / 4, maxOfOne / 2
	var c Counter
	s := &c.shards[0]
	count := func(minute int64, token int) {
		id := strconv.Itoa(token)
		k := kindOf(3, len(id), 1, policy.TokenValid, true)
		s.count(minute, k.tagged(SpotFor("app", id)), "app", id)
	}
	for n := range kinds {
		count(0, n)
	}
	count(0, 0)
	if got := c.Stats(); got != (Stats{Entries: maxOfOne, Dropped: kinds - maxOfOne}) {
		t.Errorf("a minute of %d kinds: %+v", kinds, got)
	}
	for n := range few {
		count(1, n)
	}
	late := 10 // for the minute that is being dropped
	for n := range late {
		count(0, n)
	}
	stats := c.Stats()
	if stats.Entries != maxOfOne {
		t.Errorf("with the next minute: %+v", stats)
	}
	n := [2]uint64{}
	for _, k := range c.TakeAll(maxOfOne) {
		n[k.Minute.Unix()/60] += k.N
	}
	if n[1] != few || n[0] == 0 || n[0]+n[1]+stats.Dropped != kinds+1+few+uint64(late) {
		t.Errorf("%d of %d, and %d before; %d were dropped", n[1], few, n[0], stats.Dropped)
	}
}

// A table gets the size of the previous minute's table. Late minutes do not count.
func TestLateMinutesAreSmall(t *testing.T) {
	var c Counter
	s := &c.shards[0]
	fill := func(minute int64, n int) {
		for n := range n {
			id := strconv.Itoa(n)
			k := kindOf(3, len(id), 1, policy.TokenValid, true)
			s.count(minute, k.tagged(SpotFor("app", id)), "app", id)
		}
	}
	for minute := range int64(3) {
		fill(minute, 1000)
		if n := len(s.tables[0].cells); minute > 0 && n != 1500 {
			t.Errorf("%d cells", n)
		}
		c.Take(time.UnixMilli((minute+1)*minuteMillis), 2000)
		fill(minute-1, 1)
		if n := len(s.tables[0].cells); n != minCells {
			t.Errorf("%d cells for one", n)
		}
		c.TakeAll(2000)
	}
}
