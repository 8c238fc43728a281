// Package usage counts decisions in memory, by app, token, scope, verdict and minute (B21, B22), until
// somebody takes the counts. It reads no clock and sends nothing. This package is not part of the public
// API and may change in any release.
package usage

import (
	"math/bits"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
	"unsafe"

	"github.com/countersign/countersign/pkg/internal/prefetch"
	"github.com/countersign/countersign/pkg/policy"
)

const (
	// MaxMinutes is how many finished minutes are kept. During an outage of Redis no authority can add up
	// counts, so no count is lost in an outage of this length, unless there are more than MaxEntries.
	MaxMinutes = 60
	// MaxEntries is about how many entries are kept of all minutes together. An entry with ids of the usual
	// length takes about 100 bytes, and up to 200 while the minutes differ much. So the entries that nobody
	// takes need about as much memory as the policies of one or two million tokens.
	MaxEntries = 1 << 20

	// shards is how many parts have a lock of their own. Only the first decision of its kind in a minute
	// takes a lock.
	shards     = 64
	shardShift = 64 - 6
	maxOfOne   = MaxEntries / shards

	minuteMillis = 60_000
)

// Count is how many decisions of one kind were made in one minute, since counts of this kind and minute
// were taken last.
type Count struct {
	AppID string
	// TokenID is the id of the app's token; empty when the app has no such token.
	TokenID string
	Scope   policy.Scope
	Reason  policy.Reason
	// Enforced tells whether the scope was enforced.
	Enforced bool
	// Minute is when the minute began.
	Minute time.Time
	N      uint64
}

// Stats is the size of a Counter.
type Stats struct {
	// Entries is how many entries are kept: one for each kind of decision and minute.
	Entries int
	// Dropped is how many counted decisions were lost, because nobody took them in time or there were too
	// many entries.
	Dropped uint64
}

// Counter counts decisions. The zero value is ready. It is safe for concurrent use. Every decision is
// exactly once in a Count that is taken, or in Stats.Dropped.
//
// A decision of a kind that its minute has seen takes no lock and does not allocate: it adds 1 to a word of
// memory. To take a count is to swap the word for a mark. An addition that finds the mark was not taken,
// and is made again in another word.
type Counter struct {
	shards [shards]shard

	takes sync.Mutex
	// taking are tables that were removed from their shards. Only the first one may have been taken in part.
	taking []*table
}

// Spot is a hash of an app and a token. It says where their decisions are counted.
type Spot uint64

// seeds are random, so that nobody can choose apps and tokens with equal spots.
var seeds = [2]uint64{rand.Uint64(), rand.Uint64()}

// SpotOf returns the spot for any hash of an app and any hash of a token. For requests without a token the
// token's hash is 0. Decisions of one kind must be counted at one spot; otherwise they are several Counts.
// The function is the folded product of two words (Wang Yi, wyhash).
func SpotOf(app, token uint64) Spot {
	high, low := bits.Mul64(app^seeds[0], token^seeds[1])
	return Spot(high ^ low)
}

// Fetch makes the processor fetch the memory that Count will read. Call it some time before Count. It only
// makes Count faster.
func (c *Counter) Fetch(spot Spot) {
	if t := c.shards[spot>>shardShift].current.Load(); t != nil {
		prefetch.Lines(unsafe.Pointer(&t.cells[kind(0).tagged(spot).first(len(t.cells))]), 1)
	}
}

// Count counts a decision about a request for a scope, at the spot of its app and token. The time is in
// milliseconds since the Unix epoch. Apps without a policy are not counted, because anyone can invent one.
// Count copies the ids. Times may come in any order, but times that alternate between minutes take locks.
func (c *Counter) Count(nowMillis int64, spot Spot, appID string, scope policy.Scope, d policy.Decision) {
	if d.Reason == policy.AppNotConfigured {
		return
	}
	minute := minuteOf(nowMillis)
	k := kindOf(len(appID), len(d.TokenID), scope, d.Reason, d.Enforced).tagged(spot)
	s := &c.shards[spot>>shardShift]
	if t := s.current.Load(); t != nil && t.minute == minute {
		if c := t.find(k, appID, d.TokenID); c != nil && c.add() {
			return
		}
	}
	s.count(minute, k, appID, d.TokenID)
}

// minuteOf returns the number of a minute since the Unix epoch. It is negative before the epoch.
func minuteOf(millis int64) int64 {
	minute := millis / minuteMillis
	if millis < minute*minuteMillis {
		minute--
	}
	return minute
}

// Take removes and returns counts of finished minutes: all minutes but the one of now. It returns at most
// the given number; a shorter result means that nothing is left. Late decisions of a minute are in a later
// Take: counts of the same kind and minute add up. The strings of one result share memory.
func (c *Counter) Take(now time.Time, most int) []Count {
	return c.take(minuteOf(now.UnixMilli()), true, most)
}

// TakeAll is Take including the running minute. It is for a process that ends, or that must lose less than
// a minute.
func (c *Counter) TakeAll(most int) []Count { return c.take(0, false, most) }

func (c *Counter) take(running int64, spare bool, most int) []Count {
	c.takes.Lock()
	defer c.takes.Unlock()
	counts := c.drain(nil, most)
	for i := range c.shards {
		if len(c.taking) > 0 {
			break
		}
		c.taking = c.shards[i].release(running, spare)
		// The counts are read without the shard's lock, for which requests may wait.
		counts = c.drain(counts, most)
	}
	return counts
}

// drain appends counts of the released tables until there are most counts.
func (c *Counter) drain(counts []Count, most int) []Count {
	for len(c.taking) > 0 {
		t := c.taking[0]
		counts = slices.Grow(counts, min(t.left, max(most-len(counts), 0)))
		for t.left > 0 {
			if len(counts) >= most {
				return counts
			}
			counts = append(counts, t.take())
		}
		c.taking = c.taking[1:]
	}
	return counts
}

// Stats returns the size. It waits for a running Take.
func (c *Counter) Stats() (sum Stats) {
	c.takes.Lock()
	defer c.takes.Unlock()
	for _, t := range c.taking {
		sum.Entries += t.left
	}
	for i := range c.shards {
		c.shards[i].addTo(&sum)
	}
	return sum
}
