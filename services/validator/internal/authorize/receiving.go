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
	// messageTimeout is how long a call may take to send its message once its header is there, and a stream
	// to send one whose length is there.
	messageTimeout = 10 * time.Second
	// maxReceiving is how many messages may be on their way for longer than a moment: with 64 KiB each they
	// hold 64 MiB. Past it, those that take longer than shortTimeout are ended; an honest one takes
	// milliseconds.
	maxReceiving = 1024
	shortTimeout = time.Second
	// sweepInterval is how often messages are looked for that take too long.
	sweepInterval = 500 * time.Millisecond
)

var errNoMessage = apierr.Exhausted("MESSAGE_TIMEOUT", "the message did not arrive within %d s, or within %d s while more than %d are on their way",
	int(messageTimeout.Seconds()), int(shortTimeout.Seconds()), maxReceiving)

// receiver is a call, or a stream, whose message is on its way. It stands in a list of its shard meanwhile.
type receiver struct {
	shard          *shard
	ctx            context.Context
	since          int64 // how many sweeps there were; time stands still for them on a machine that is too busy to sweep
	before, behind *receiver
}

// shard lists a part of the receivers, the longest on its way first. There are several, on cache lines of
// their own, since every call changes one: that costs some nanoseconds, and a timer for each call would
// cost more.
type shard struct {
	mu          sync.Mutex
	first, last *receiver
	count       atomic.Int64 // of the list; changed with mu held
	_           [88]byte
}

var (
	shards [64]shard
	sweeps atomic.Int64
)

func newReceiver() receiver { return receiver{shard: &shards[rand.N(len(shards))]} }

// begin notes that a message of a call is on its way.
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

// end notes that the message is there, or that it never will be.
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

// receiving returns how many messages are on their way.
func receiving() (sum int) {
	for i := range shards {
		sum += int(shards[i].count.Load())
	}
	return sum
}

// EndLate ends calls and streams whose messages take too long, until ctx is done.
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

// sweeping keeps several servers in one process from sweeping more often than one.
var sweeping struct {
	sync.Mutex
	last time.Time
}

// sweep ends what is late; not so soon after another sweep, unless that is forced.
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

// late returns the calls whose message was on its way at a sweep already.
func (s *shard) late(sweep int64) (late []context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for r := s.first; r != nil && r.since < sweep; r = r.behind {
		late = append(late, r.ctx)
	}
	return late
}

// endCall tells the caller, and makes the reading of its message return. grpc-go lets a server end a call
// by its transport only. That is no part of its promises: a test fails when it does not any more.
func endCall(ctx context.Context) {
	if call, ok := grpc.ServerTransportStreamFromContext(ctx).(interface{ WriteStatus(s *status.Status) error }); ok {
		_ = call.WriteStatus(errNoMessage.GRPCStatus()) // fails when the connection is gone
	}
}
