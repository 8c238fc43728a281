package usage

import (
	"slices"
	"sync"
	"sync/atomic"
)

// shard has the entries whose spot falls to it.
type shard struct {
	// current is the table that was counted in last, for counting without the lock. It may have been released
	// already.
	current atomic.Pointer[table]

	mu sync.Mutex
	// tables has one table for each minute with an entry, in the order in which they were made. This is the
	// order of their minutes, unless the clock was set back. None of their counts was taken. Only these
	// tables get new entries.
	tables []*table
	// dropping is a table whose entries are dropped one by one.
	dropping *table
	entries  int // number of entries in tables and dropping
	dropped  uint64
	// ofLatest is how many entries the table of the latest minute got. The next minute probably gets as many.
	latest   int64
	ofLatest int

	_ [128]byte // keeps shards on different cache lines
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
		c.add() // cannot fail: taking needs the lock
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

// table returns the table of a minute. It makes the table if necessary.
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

// grow replaces a table with a larger one.
func (s *shard) grow(t *table) *table {
	larger := t.grown()
	s.tables[slices.Index(s.tables, t)] = larger
	s.current.Store(larger)
	return larger
}

// room makes room for one more entry in a table. It drops one entry of an older table for each new one, so
// that no caller waits for many drops. It returns false when no other table has entries to drop.
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

// giveUp begins to drop a table. It first finishes the one that is being dropped.
func (s *shard) giveUp(i int) {
	for s.dropping != nil {
		s.drop()
	}
	s.dropping = s.remove(i)
}

// drop drops one entry.
func (s *shard) drop() {
	s.dropped += s.dropping.take().N
	s.entries--
	if s.dropping.left == 0 {
		s.dropping = nil
	}
}

// remove removes a table, so that it gets no new entries.
func (s *shard) remove(i int) *table {
	t := s.tables[i]
	s.tables = slices.Delete(s.tables, i, i+1)
	s.current.CompareAndSwap(t, nil)
	return t
}

// release removes and returns all tables. With spare, it keeps the table of the running minute.
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
