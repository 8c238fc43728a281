// Package usage counts decisions by app, token, scope, verdict and minute (B21, B22), between the requests
// that they are made for and whoever takes the counts. It is memory alone: it reads no clock and sends
// nothing. This package is not part of the public API and may change in any release.
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
	// MaxMinutes is how many minutes are kept besides the one being counted, so that an outage of Redis,
	// without which no authority can add counts up, loses none for as long; unless there are more entries
	// than are kept.
	MaxMinutes = 60
	// MaxEntries is about how many entries are kept of all minutes together. One of usual ids takes some
	// 100 bytes, up to 200 while minutes differ much, so that all that nobody takes is about as much memory
	// as the policies of a million tokens or two.
	MaxEntries = 1 << 20

	// shards is how many parts are locked apart from each other. A lock is for the first request of its
	// kind in a minute.
	shards     = 64
	shardShift = 64 - 6
	maxOfOne   = MaxEntries / shards

	minuteMillis = 60_000
)

// Count is how many decisions were of one kind in one minute, since the kind and minute were taken last.
type Count struct {
	AppID string
	// TokenID is the token that was recognised; empty when none was.
	TokenID string
	Scope   policy.Scope
	Reason  policy.Reason
	// Enforced says whether the scope was enforced.
	Enforced bool
	// Minute is when the minute began.
	Minute time.Time
	N      uint64
}

// Stats is how much there is of a Counter.
type Stats struct {
	// Entries is how many are kept: one for each kind of decision and minute.
	Entries int
	// Dropped is how many decisions were counted and are lost, since nobody took them in time or there were
	// too many kinds.
	Dropped uint64
}

// Counter counts. The zero value is ready. All methods are safe for concurrent use. Every decision is in
// one Count that is taken, or in Stats.Dropped, once.
//
// A decision of a kind that its minute has seen takes no lock and does not allocate: it adds to a word of
// memory. Whoever takes that word leaves a mark in it. An addition that finds the mark is not in what was
// taken, and is made again elsewhere.
type Counter struct {
	shards [shards]shard

	takes sync.Mutex
	// taking are tables that are in no shard any more; only the first may be taken from.
	taking []*table
}

// Spot is where decisions about one app and one token are counted.
type Spot uint64

// seeds keep others from choosing apps and tokens that fall together.
var seeds = [2]uint64{rand.Uint64(), rand.Uint64()}

// SpotOf returns the spot of an app and a token, of which it takes any hashes; that of an app's requests
// without a token has 0 for it. Decisions that are counted at another spot than others of their kind are
// another Count (Wang Yi, wyhash: the folded product of two words).
func SpotOf(app, token uint64) Spot {
	high, low := bits.Mul64(app^seeds[0], token^seeds[1])
	return Spot(high ^ low)
}

// Fetch has the processor fetch what Count will look at. It changes nothing but how long that takes: call
// it some time before.
func (c *Counter) Fetch(spot Spot) {
	if t := c.shards[spot>>shardShift].current.Load(); t != nil {
		prefetch.Lines(unsafe.Pointer(&t.cells[kind(0).tagged(spot).first(len(t.cells))]), 1)
	}
}

// Count counts a decision about a request for a scope, made at a time in milliseconds since the Unix epoch,
// at the spot of its app and token. An app without a policy is not counted: anyone can make one up. It
// keeps none of the memory that it is given. Times may come in any order; those that go back and forth
// between minutes take locks.
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

// minuteOf returns the number of a minute since the Unix epoch, below 0 before it.
func minuteOf(millis int64) int64 {
	minute := millis / minuteMillis
	if millis < minute*minuteMillis {
		minute--
	}
	return minute
}

// Take removes and returns at most so many counts of finished minutes: all but that of now. Fewer than that
// are all that there were. What comes late for a minute is taken by a later Take: counts of the same kind
// and minute add up. The texts share memory with others that were taken at the same time.
func (c *Counter) Take(now time.Time, most int) []Count {
	return c.take(minuteOf(now.UnixMilli()), true, most)
}

// TakeAll is Take, with the minute that is not over: for a process that ends, or that may lose less than a
// minute.
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
		// This is not done under the shard's lock, for which requests may wait.
		counts = c.drain(counts, most)
	}
	return counts
}

// drain appends what is to be taken, until there are so many counts.
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

// Stats returns how much there is. It waits for a Take.
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
