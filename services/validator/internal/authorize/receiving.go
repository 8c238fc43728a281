package authorize

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/pkg/apierr"
)

const (
	// messageTimeout is how long the message of a call may take after the header, and the message of a stream
	// after its length.
	messageTimeout = 10 * time.Second
	// maxReceiving is how many messages may be arriving before shortTimeout applies. With 64 KiB each they
	// take 64 MiB. An honest client needs milliseconds for a message.
	maxReceiving = 1024
	shortTimeout = time.Second
	// sweepInterval is the time between two searches for late messages.
	sweepInterval = 500 * time.Millisecond
)

var errNoMessage = apierr.Exhausted(
	"MESSAGE_TIMEOUT", "the message did not arrive within %d s, or within %d s while more than %d are on their way",
	int(messageTimeout.Seconds()), int(shortTimeout.Seconds()), maxReceiving,
)

// receiver is a call or a stream. It is in the list of its shard while its message is arriving.
type receiver struct {
	shard          *shard
	ctx            context.Context
	since          int64 // the number of sweeps at begin: a machine too busy to sweep does not make messages late
	before, behind *receiver
}

// shard lists a part of the receivers, the oldest first. Every call changes a shard, so there are many, on
// cache lines of their own. That costs some nanoseconds; a timer for each call would cost more.
type shard struct {
	mu          sync.Mutex
	first, last *receiver
	count       atomic.Int64 // length of the list; changed with mu held
	_           [88]byte
}

var (
	shards [64]shard
	sweeps atomic.Int64
)

func newReceiver() receiver { return receiver{shard: &shards[rand.N(len(shards))]} }

// begin notes that a message of a call or stream begins to arrive.
func (r *receiver) begin(ctx context.Context) {
	s := r.shard
	s.mu.Lock()
	r.ctx, r.since, r.before = ctx, sweeps.Load(), s.last
	if s.last == nil {
		s.first = r
	} else {
		s.last.behind = r
	}
	s.last = r
	s.count.Store(s.count.Load() + 1)
	s.mu.Unlock()
}

// end notes that the message has arrived or failed.
func (r *receiver) end() {
	s := r.shard
	s.mu.Lock()
	if r.before == nil {
		s.first = r.behind
	} else {
		r.before.behind = r.behind
	}
	if r.behind == nil {
		s.last = r.before
	} else {
		r.behind.before = r.before
	}
	r.ctx, r.before, r.behind = nil, nil, nil
	s.count.Store(s.count.Load() - 1)
	s.mu.Unlock()
}

// receiving returns how many messages are arriving.
func receiving() (sum int) {
	for i := range shards {
		sum += int(shards[i].count.Load())
	}
	return sum
}

// EndLate ends calls and streams whose messages are late, until ctx is done.
func EndLate(ctx context.Context) {
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			sweep(false)
		}
	}
}

// sweeping keeps several servers in one process from sweeping more often than a single one would.
var sweeping struct {
	sync.Mutex
	last time.Time
}

// sweep ends calls and streams whose messages are late. Unless forced, it does nothing soon after another
// sweep.
func sweep(forced bool) {
	sweeping.Lock()
	defer sweeping.Unlock()
	if !forced && time.Since(sweeping.last) < sweepInterval/2 {
		return
	}
	sweeping.last = time.Now()
	timeout := messageTimeout
	if receiving() > maxReceiving {
		timeout = shortTimeout
	}
	now := sweeps.Add(1)
	for i := range shards {
		for _, ctx := range shards[i].late(now - int64(timeout/sweepInterval)) {
			endCall(ctx)
		}
	}
}

// late returns the contexts of receivers that began before a sweep.
func (s *shard) late(sweep int64) (late []context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for r := s.first; r != nil && r.since < sweep; r = r.behind {
		late = append(late, r.ctx)
	}
	return late
}

// endCall sends the caller a status, which makes reading the message fail. grpc-go lets a server end a call
// only through its transport, and does not promise to keep that; a test fails when it changes.
func endCall(ctx context.Context) {
	if call, ok := grpc.ServerTransportStreamFromContext(ctx).(interface{ WriteStatus(s *status.Status) error }); ok {
		_ = call.WriteStatus(errNoMessage.GRPCStatus()) // fails when the connection is gone
	}
}
