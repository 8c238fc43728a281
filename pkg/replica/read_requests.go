package replica

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/countersign/countersign/pkg/record"
)

// maxFruitlessReads bounds the pause between reads for callers of Reach: readInterval doubled this many
// times, 640 ms.
const maxFruitlessReads = 6

// readRequests decides how often a worker reads its partition for callers of Reach. A caller's cursor comes
// from outside and may be made up, so the reads that callers cause have a bound (B25):
//
//   - one read that is sent after the latest request answers all of them, and so does a poll;
//   - while such reads leave the cursor unchanged, the pause before the next one doubles, up to 640 ms;
//   - the pause is readInterval again as soon as the cursor moves.
//
// The pause delays only reads that a caller of Reach asked for. The worker follows at once a hint or a poll
// that shows a change.
type readRequests struct {
	// arrived has an element when a request arrived since the worker last checked.
	arrived chan struct{}

	mu sync.Mutex
	// latest is the time of the latest request. answered is the latest time at which an answered read was
	// sent.
	latest, answered time.Time

	// The worker alone uses the rest: the start of its latest read, the cursor after that read, and how many
	// reads in a row found nothing new.
	began      time.Time
	lastCursor record.Cursor
	fruitless  int
}

func newReadRequests() readRequests { return readRequests{arrived: make(chan struct{}, 1)} }

// add requests a read that begins after this call.
func (r *readRequests) add() {
	now := time.Now()
	r.mu.Lock()
	r.latest = now
	r.mu.Unlock()
	select {
	case r.arrived <- struct{}{}:
	default:
	}
}

// answer records that the store has answered a read that was sent at the given time.
func (r *readRequests) answer(sent time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.answered.Before(sent) {
		r.answered = sent
	}
}

// pending reports whether a request arrived after the latest answered read was sent.
func (r *readRequests) pending() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.latest.After(r.answered)
}

// noteRead records when the worker began a read, and the cursor after it.
func (r *readRequests) noteRead(began time.Time, cursor record.Cursor) {
	if cursor == r.lastCursor {
		r.fruitless = min(r.fruitless+1, maxFruitlessReads)
	} else {
		r.fruitless = 0
	}
	r.began, r.lastCursor = began, cursor
}

// pause returns how long the worker waits before the next requested read. At 0 or less it reads at once. A
// jitter of a fifth spreads the reads of partitions that are requested together.
func (r *readRequests) pause(cursor record.Cursor) time.Duration {
	if cursor != r.lastCursor {
		r.fruitless = 0
	}
	pause := readInterval << r.fruitless
	return pause + rand.N(pause/5) - time.Since(r.began)
}
