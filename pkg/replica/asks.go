package replica

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/countersign/countersign/pkg/record"
)

// maxVainReads bounds the pause between reads for callers of Reach: readInterval doubled that many times,
// 640 ms.
const maxVainReads = 6

// asks keeps how often a partition is read for callers of Reach. Their cursors come from outside and may be
// made up, so what they cost has a bound (B25):
//
//   - a read that was sent after the latest caller came answers all of them, and so does a poll;
//   - while such reads find that the partition stands still, the pause before the next one doubles, up to 640 ms;
//   - it is readInterval again as soon as the partition moves.
//
// The pause holds back only reads that nothing but a caller asks for. A hint or a poll that shows a change
// is followed at once.
type asks struct {
	// came has an element when a caller came since the worker last looked.
	came chan struct{}

	mu sync.Mutex
	// latest is when the latest caller came, answered when the latest look at the store was sent that was
	// answered.
	latest, answered time.Time

	// The rest belongs to the worker: when it last read, what the cursor was then, and how many reads in a
	// row found nothing new.
	began time.Time
	stood record.Cursor
	vain  int
}

func newAsks() asks { return asks{came: make(chan struct{}, 1)} }

// ask asks for a read that begins after the call.
func (a *asks) ask() {
	now := time.Now()
	a.mu.Lock()
	a.latest = now
	a.mu.Unlock()
	select {
	case a.came <- struct{}{}:
	default:
	}
}

// answer notes that a look at the store which was sent at a time has been answered.
func (a *asks) answer(sent time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.answered.Before(sent) {
		a.answered = sent
	}
}

// open tells whether a caller came after the latest look at the store was sent.
func (a *asks) open() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.latest.After(a.answered)
}

// read notes that the worker began a read at a time, after which the cursor was at.
func (a *asks) read(began time.Time, at record.Cursor) {
	if at == a.stood {
		a.vain = min(a.vain+1, maxVainReads)
	} else {
		a.vain = 0
	}
	a.began, a.stood = began, at
}

// pause returns how long the next read for callers has to wait; 0 or less is not at all. Jitter of a fifth
// keeps partitions apart that are asked for together.
func (a *asks) pause(at record.Cursor) time.Duration {
	if at != a.stood {
		a.vain = 0
	}
	pause := readInterval << a.vain
	return pause + rand.N(pause/5) - time.Since(a.began)
}
