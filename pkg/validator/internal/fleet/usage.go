package fleet

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/usage"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

const (
	// takeInterval is how often the counts are taken, those of the running minute too. With spread, it bounds
	// how much is lost when the validator is killed.
	takeInterval = 10 * time.Second
	// takeAtOnce is how many counts are taken while a lock is held.
	takeAtOnce = 1 << 12
	// spread is the time over which the batches of one take are sent. maxSpread and minSpread bound the pause
	// between two of them.
	spread    = 3 * time.Second
	maxSpread = 50 * time.Millisecond
	minSpread = time.Millisecond
	// idle is how often the outbox is looked at when nothing is due.
	idle = 250 * time.Millisecond
	// countedLate is how long after its time a decision may be counted while the validator decides.
	countedLate = time.Second
	// flushTimeout bounds the last flush of a validator that leaves.
	flushTimeout = 3 * time.Second
)

// handover hands the usage counts of a validator to authorities. It is safe for concurrent use.
type handover struct {
	counter *usage.Counter // nil hands nothing over
	clock   replica.WallClock

	mu      sync.Mutex
	storeID string
	outbox  *usage.Outbox // nil until a store is followed
	// outboxes has the outbox of each store that was followed, since its numbers go on if it is followed
	// again.
	outboxes map[string]*usage.Outbox
	due      time.Time // of the next take
	dropped  uint64
	// droppedUntil is a time after which no dropped decision was made.
	droppedUntil time.Time
	// sent is when the first batch was sent, and heard whether any authority has ever answered one.
	sent  time.Time
	heard bool
	final bool
	// told is the latest progress, for readers that must not wait. Nil while nothing is handed over.
	told atomic.Pointer[countersignv1.UsageProgress]
	// answered is signalled when an answer has arrived.
	answered chan struct{}
}

func newHandover(counter *usage.Counter, clock replica.WallClock) *handover {
	return &handover{
		counter: counter, clock: clock, answered: make(chan struct{}, 1), outboxes: map[string]*usage.Outbox{},
	}
}

// open prepares for a stream about a store. Batches of another store stay behind, because this store's
// authorities do not know its apps.
func (h *handover) open(of *replica.Replica) {
	if h.counter == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if codec := of.Codec(); h.outbox == nil || h.storeID != codec.StoreID() {
		h.storeID = codec.StoreID()
		if h.outbox = h.outboxes[h.storeID]; h.outbox == nil {
			h.outbox = usage.NewOutbox(codec.Partitions(), codec.PartitionOf)
			h.outboxes[h.storeID] = h.outbox
		}
	}
	h.outbox.Reconnected()
	h.tell()
}

// take moves all counts from the counter to the outbox, as far as the outbox has room. Late is how long after
// its time a decision may be counted.
func (h *handover) take(late time.Duration) {
	before := h.clock.At(time.Now()).Add(-late)
	dropped := h.counter.Stats().Dropped
	for {
		h.mu.Lock()
		room := min(h.outbox.Room(), takeAtOnce)
		h.mu.Unlock()
		if room == 0 {
			return
		}
		counts := h.counter.TakeAll(room)
		all := len(counts) < room
		h.mu.Lock()
		h.outbox.Put(counts, all, before)
		h.noteDropped(dropped)
		h.tell()
		h.mu.Unlock()
		if all {
			return
		}
	}
}

// noteDropped notes how many decisions were dropped until now. The caller holds the mutex.
func (h *handover) noteDropped(all uint64) {
	if all > h.dropped {
		h.dropped, h.droppedUntil = all, h.clock.At(time.Now())
	}
}

// takeAll takes the counts in each takeInterval until ctx ends, while an authority listens.
func (h *handover) takeAll(ctx context.Context, listens func() bool) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(h.untilTake(time.Now())):
		}
		if !listens() {
			continue
		}
		h.take(countedLate)
		h.mu.Lock()
		h.due = time.Now().Add(takeInterval)
		h.mu.Unlock()
	}
}

// untilTake returns how long to wait before the next take, across all streams. Validators that were started
// together take at different times.
func (h *handover) untilTake(now time.Time) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.due.IsZero() {
		h.due = now.Add(rand.N(takeInterval))
	}
	if wait := h.due.Sub(now); wait > 0 {
		return wait
	}
	return idle // nobody has listened when it was due
}

// next returns a message with the next batch that is due, or nil, and when to ask again. It does not wait for
// a take, because reports must not.
func (h *handover) next(now time.Time) (m *countersignv1.ReportRequest, pause time.Duration) {
	if !h.mu.TryLock() {
		return nil, minSpread
	}
	if h.outbox == nil {
		h.mu.Unlock()
		return nil, idle
	}
	batch, due := h.outbox.Next(now)
	pause = idle
	if due {
		pause = min(max(spread/time.Duration(1+h.outbox.Due(now)), minSpread), maxSpread)
		if h.sent.IsZero() {
			h.sent = now
		}
	}
	h.mu.Unlock()
	if !due {
		return nil, pause
	}
	return &countersignv1.ReportRequest{Usage: batchToProto(batch)}, pause
}

func batchToProto(b usage.Batch) *countersignv1.UsageBatch {
	m := &countersignv1.UsageBatch{
		Number: b.Number, Partition: uint32(b.Partition), Oldest: b.Oldest,
		Counts: make([]*countersignv1.UsageCount, len(b.Counts)),
	}
	for i := range b.Counts {
		c := &b.Counts[i]
		m.Counts[i] = &countersignv1.UsageCount{
			AppId: c.AppID, TokenId: c.TokenID, Scope: countersignv1.Scope(c.Scope), Reason: countersignv1.Reason(c.Reason),
			Enforced: c.Enforced, Minute: timestamppb.New(c.Minute), Count: c.N,
		}
	}
	return m
}

// receive takes an answer to a batch, if the message has one.
func (h *handover) receive(m *countersignv1.ReportResponse, now time.Time) {
	if m.UsagePartition == nil || h.counter == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.outbox == nil {
		return
	}
	h.outbox.Acknowledge(int(m.GetUsagePartition()), m.GetUsageAcknowledged(), now)
	h.heard = true
	h.tell()
	select {
	case h.answered <- struct{}{}:
	default:
	}
}

// progress says how far the counts were acknowledged; nil when nothing is handed over.
func (h *handover) progress() *countersignv1.UsageProgress { return h.told.Load() }

// tell renews the progress. The caller holds the mutex.
func (h *handover) tell() {
	p := &countersignv1.UsageProgress{Dropped: h.dropped, Final: h.final}
	if until := h.outbox.CompleteUntil(); !until.IsZero() {
		p.CompleteUntil = timestamppb.New(until)
	}
	if h.dropped > 0 {
		p.DroppedUntil = timestamppb.New(h.droppedUntil)
	}
	h.told.Store(p)
}

// unacknowledged returns how many batches no authority has acknowledged yet, and how old the oldest decision
// in them may be. The age is 0 when there are none.
func (h *handover) unacknowledged() (batches int, age time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.outbox == nil {
		return 0, 0
	}
	if batches = h.outbox.Stats().Unacknowledged; batches > 0 {
		if until := h.outbox.CompleteUntil(); !until.IsZero() {
			age = h.clock.At(time.Now()).Sub(until)
		}
	}
	return batches, max(age, 0)
}

// ends takes the last counts, after the validator has made its last decision. It reports whether there is
// something left to send, to an authority that may take it.
func (h *handover) ends(storeID string) bool {
	if h.counter == nil {
		return false
	}
	h.mu.Lock()
	ours := h.outbox != nil && h.storeID == storeID
	// An authority of an earlier release ignores batches.
	deaf := !h.heard && !h.sent.IsZero() && time.Since(h.sent) > usage.ResendAfter
	h.mu.Unlock()
	if !ours {
		return false
	}
	h.take(0)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.outbox.Reconnected()
	h.conclude()
	return !h.final && !deaf
}

// conclude notes whether all is acknowledged. The caller holds the mutex.
func (h *handover) conclude() {
	h.final = h.outbox.Stats().Unacknowledged == 0 && h.counter.Stats().Entries == 0
	h.tell()
}

// flush sends what is left over a stream of its own, until everything is acknowledged or ctx ends.
func (r *Reporter) flush(ctx context.Context, storeID string) error {
	h := r.handover
	return r.call(ctx, func(stream reportStream) error {
		if err := stream.Send(r.hello(storeID)); err != nil {
			return err
		}
		var receiving sync.WaitGroup
		defer receiving.Wait()
		defer func() { _ = stream.CloseSend() }()
		failed := make(chan error, 1)
		receiving.Go(func() {
			for {
				m, err := stream.Recv()
				if err != nil {
					failed <- err
					return
				}
				h.receive(m, time.Now())
			}
		})
		for {
			h.mu.Lock()
			h.conclude()
			done := h.final
			h.mu.Unlock()
			if done {
				return nil
			}
			m, pause := h.next(time.Now())
			if m != nil {
				m.Sequence = r.sequence.Add(1)
				_ = stream.Send(m) // if it fails, Recv returns the reason
				pause = 0
			}
			select {
			case err := <-failed:
				return err
			case <-h.answered:
			case <-time.After(pause):
			}
		}
	})
}
