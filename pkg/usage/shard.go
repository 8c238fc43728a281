package usage

import (
	"slices"
	"sync"
	"sync/atomic"
)

// shard is the kinds of decisions that fall to it by their hash.
type shard struct {
	// current is the table that was counted in last, for whoever counts without the lock. It may be one
	// that is released.
	current atomic.Pointer[table]

	mu sync.Mutex
	// tables are one for each minute, with an entry at least, in the order in which they were made: that of
	// their minutes, unless the clock was set back. No count of theirs is taken. Only what is in here gets
	// new entries.
	tables []*table
	// dropping is what is left of a table that is given up little by little.
	dropping *table
	entries  int // of tables and dropping
	dropped  uint64
	// ofLatest is how many entries were made in the table that was made last for the latest minute: the
	// next minute has about as many.
	latest   int64
	ofLatest int

	_ [128]byte // shards are written to by different processors
}

// count counts a decision that may be the first of its kind in its minute.
func (s *shard) count(minute int64, k kind, appID, tokenID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !fits(appID, tokenID) {
		s.dropped++
		return
	}
	t := s.table(minute)
	s.current.Store(t)
	if c := t.find(k, appID, tokenID); c != nil {
		c.add() // nobody takes it without the lock
		return
	}
	if !s.room(t) {
		s.dropped++
		return
	}
	if t.full() {
		t = s.grow(t)
	}
	t.insert(k, appID, tokenID)
	s.entries++
	if minute == s.latest {
		s.ofLatest++
	}
}

// table returns the table of a minute, which it makes if there is none.
func (s *shard) table(minute int64) *table {
	for i := len(s.tables) - 1; i >= 0; i-- {
		if s.tables[i].minute == minute {
			return s.tables[i]
		}
	}
	if len(s.tables) > MaxMinutes {
		s.giveUp(0)
		for s.dropping != nil {
			s.drop()
		}
	}
	likely := 0
	if minute >= s.latest {
		likely = s.ofLatest
		s.latest, s.ofLatest = minute, 0
	}
	t := newTable(minute, likely)
	s.tables = append(s.tables, t)
	return t
}

// grow puts a larger table in the place of one.
func (s *shard) grow(t *table) *table {
	larger := t.grown()
	s.tables[slices.Index(s.tables, t)] = larger
	s.current.Store(larger)
	return larger
}

// room makes room for one more entry in a table, and returns false when that could only be at the cost of
// the same table: what is counted already goes on being counted. Every entry that is made gives up one:
// nobody waits for all to be given up.
func (s *shard) room(t *table) bool {
	if s.entries < maxOfOne {
		return true
	}
	if s.dropping == nil {
		oldest := 0
		if s.tables[0] == t {
			oldest = 1
		}
		if oldest == len(s.tables) {
			return false
		}
		s.giveUp(oldest)
	}
	s.drop()
	return true
}

// giveUp begins to drop a table, after what there is to drop.
func (s *shard) giveUp(i int) {
	for s.dropping != nil {
		s.drop()
	}
	s.dropping = s.remove(i)
}

// drop drops the next entry.
func (s *shard) drop() {
	s.dropped += s.dropping.take().N
	s.entries--
	if s.dropping.left == 0 {
		s.dropping = nil
	}
}

// remove takes a table out, after which nothing new gets into it.
func (s *shard) remove(i int) *table {
	t := s.tables[i]
	s.tables = slices.Delete(s.tables, i, i+1)
	s.current.CompareAndSwap(t, nil)
	return t
}

// release removes and returns all tables, but for that of the running minute if it is to be spared.
func (s *shard) release(running int64, spare bool) (released []*table) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dropping != nil {
		released = append(released, s.dropping)
		s.dropping = nil
	}
	for i := 0; i < len(s.tables); {
		if spare && s.tables[i].minute == running {
			i++
		} else {
			released = append(released, s.remove(i))
		}
	}
	for _, t := range released {
		s.entries -= t.left
	}
	return released
}

func (s *shard) addTo(sum *Stats) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum.Entries += s.entries
	sum.Dropped += s.dropped
}
