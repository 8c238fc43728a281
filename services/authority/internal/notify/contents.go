package notify

import (
	"cmp"
	"maps"
	"slices"
	"time"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

const (
	// maxPending bounds the notices that are to be delivered. Each has its payload, of about 700 bytes.
	maxPending = 10_000
	// maxEntries bounds the outbox. An entry without payload has about 130 bytes.
	maxEntries = 100_000
	// maxChanges bounds the entries that one round renews or forgets. All entries of one day may be due at
	// once.
	maxChanges = 2_000
)

// contents is what the outbox holds in one round.
type contents struct {
	entries map[string]*entry
	// from and to are the entries that are to be replaced, as they were and as they are to be. What is only
	// in from is to be removed.
	from, to map[string]string
}

// find notes which notices still hold, and returns those that the outbox does not have, each once. It renews
// entries, and forgets those whose notices were not found for long.
func (c *contents) find(found []*countersignv1.Notice, now time.Time) (unknown []*countersignv1.Notice) {
	seen := map[string]bool{}
	for _, n := range found {
		id := n.GetNoticeId()
		if e := c.entries[id]; e != nil {
			e.holds(now)
		} else if !seen[id] {
			seen[id] = true
			unknown = append(unknown, n)
		}
	}
	for id, e := range c.entries {
		if len(c.from) >= maxChanges {
			break
		}
		switch {
		case e.outdated(now):
			c.forget(id)
		case e.changed:
			if text, err := e.text(); err == nil {
				c.from[id], c.to[id] = e.raw, text
			}
		}
	}
	return unknown
}

// forget removes an entry.
func (c *contents) forget(id string) {
	c.from[id] = c.entries[id].raw
	delete(c.to, id)
	delete(c.entries, id)
}

// makeRoom returns how many notices may be added. When they are more than the outbox may hold, it forgets the
// entries that were not found for longest. An entry whose notice may still hold stays, since the notice would
// be sent again.
func (c *contents) makeRoom(wanted int, now time.Time) int {
	wanted = max(0, min(wanted, maxPending-c.pending()))
	if over := len(c.entries) + wanted - maxEntries; over > 0 {
		idle := slices.DeleteFunc(slices.Collect(maps.Keys(c.entries)), func(id string) bool { return !c.entries[id].idle(now) })
		slices.SortFunc(idle, func(a, b string) int {
			return cmp.Or(cmp.Compare(c.entries[a].FoundMillis, c.entries[b].FoundMillis), cmp.Compare(a, b))
		})
		for _, id := range idle[:min(over, len(idle))] {
			c.forget(id)
		}
	}
	return max(0, min(wanted, maxEntries-len(c.entries)))
}

// pending returns how many notices are to be delivered.
func (c *contents) pending() (n int) {
	for _, e := range c.entries {
		if e.State == pending {
			n++
		}
	}
	return n
}
