package replica

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/table"
)

const (
	// PollInterval is the mean time between two polls, which read all heads. Each interval varies by up to a
	// fifth.
	PollInterval = 250 * time.Millisecond
	// pollTimeout bounds one poll.
	pollTimeout = 2 * time.Second
	// readInterval is the least time between two reads of one partition.
	readInterval = 10 * time.Millisecond
	// readTimeout bounds one read of a partition's log, loadTimeout one load of a whole partition.
	readTimeout = 2 * time.Second
	// loadTimeout is long because the source bounds each read of a load.
	loadTimeout = 15 * time.Minute
	// tailLimit is the most links that one read asks for. After failed reads it asks for at least
	// minTailLimit: one known link and one new one.
	tailLimit    = 500
	minTailLimit = 2
	// repairInterval is the least time between two loads of a partition with damaged documents.
	repairInterval = 10 * time.Second
	// historyLength is how many links each partition keeps in memory.
	historyLength = 1024
	// watchBackoff is the first pause before a broken subscription is made again. It doubles up to
	// watchBackoffMax.
	watchBackoff    = 100 * time.Millisecond
	watchBackoffMax = 2 * time.Second
)

// Replica keeps a table equal to a Source. Make one with New, start it with Run. All methods are safe for
// concurrent use, except the ones that must be called before Run.
type Replica struct {
	source     Source
	codec      *record.Codec
	table      *table.Table
	heals      bool
	lists      bool
	clock      WallClock
	log        *slog.Logger
	partitions []*partition
	pollNow    chan struct{}
	progress   progress
	changes    progress
	logs       logLimiter
	stats      *counters
	throttle   *throttle
}

// New returns an empty replica.
func New(source Source, codec *record.Codec, log *slog.Logger) *Replica {
	r := &Replica{
		source:   source,
		codec:    codec,
		table:    table.New(codec.Partitions()),
		log:      log,
		pollNow:  make(chan struct{}, 1),
		stats:    newCounters(),
		throttle: newThrottle(runtime.GOMAXPROCS(0)),
	}
	for i := range codec.Partitions() {
		r.partitions = append(r.partitions, &partition{
			number:   i,
			r:        r,
			log:      log.With("partition", i),
			wake:     make(chan struct{}, 1),
			requests: newReadRequests(),
			limit:    tailLimit,
			state:    state{revoked: stickies{}},
		})
	}
	return r
}

// Run loads the table and keeps it equal to the source until ctx ends. It then returns nil. Errors of the
// source are logged and retried; loaded data stays.
func (r *Replica) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, p := range r.partitions {
		g.Go(func() error { p.run(ctx); return nil })
	}
	g.Go(func() error { r.watch(ctx); return nil })
	g.Go(func() error { r.poll(ctx); return nil })
	return g.Wait()
}

// Heals says that this process heals the store. Its replica then follows at once a store that an operator has
// restored or adopted, because it must see what that store has lost. Other replicas follow after the healing.
// Heals must be called before Run.
func (r *Replica) Heals() { r.heals = true }

// Lists says that this process lists apps: the table keeps them sorted for Table.Apps. It must be called
// before Import and Run.
func (r *Replica) Lists() { r.lists = true }

// Table returns the table, which is the same for the life of the replica.
func (r *Replica) Table() *table.Table { return r.table }

// Codec returns the codec of the store's records.
func (r *Replica) Codec() *record.Codec { return r.codec }

// poll reads all heads at each PollInterval. So the replica notices a change whose hint was lost.
func (r *Replica) poll(ctx context.Context) {
	healthy := true
	for {
		err := r.pollOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		if (err == nil) != healthy {
			healthy = err == nil
			if healthy {
				r.log.Info("the store answers again")
			} else {
				r.log.Warn("the store does not answer; deciding from the last good data", "error", err)
			}
		}
		pause := PollInterval - PollInterval/5 + rand.N(2*PollInterval/5)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		case <-r.pollNow:
		}
	}
}

func (r *Replica) pollOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	before := make([]record.Cursor, len(r.partitions))
	for i, p := range r.partitions {
		before[i] = p.position()
	}
	sent := time.Now()
	r.stats.Polls.Add(1)
	heads, err := r.source.Heads(ctx)
	if err != nil {
		r.stats.PollFailures.Add(1)
	}
	for i, p := range r.partitions {
		if err == nil && heads[i].Err != nil {
			err = fmt.Errorf("partition %d: %w", i, heads[i].Err)
		}
		switch {
		case heads == nil || heads[i].Err != nil:
			p.noteUnanswered()
			continue
		}
		p.noteAnswered()
		switch {
		case p.checkHead(heads[i].Raw, sent, before[i]) != nothing:
			p.wakeWorker()
		}
	}
	r.progress.signal()
	return err
}

// watch subscribes to hints. A poll finds what is published while there is no subscription.
func (r *Replica) watch(ctx context.Context) {
	pause := watchBackoff
	for {
		started := time.Now()
		err := r.source.Watch(ctx, func(partition int, raw []byte) {
			if partition >= 0 && partition < len(r.partitions) {
				r.Offer(partition, raw)
			}
		})
		if ctx.Err() != nil {
			return
		}
		if time.Since(started) > watchBackoffMax {
			pause = watchBackoff
		}
		r.logs.warn(r.log, "subscription lost; following by polls until it is back", "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause + rand.N(pause)):
		}
		pause = min(2*pause, watchBackoffMax)
	}
}

// Offer gives the replica a link that was published. The replica applies it at once when it continues the
// partition's cursor. Otherwise it reads the log.
func (r *Replica) Offer(partition int, raw []byte) {
	p := r.partitions[partition]
	link, err := r.codec.OpenLink(partition, raw)
	if err != nil {
		r.stats.HintsBad.Add(1)
		r.quarantine(err)
		r.logs.error(p.log, "hint does not verify", "error", err)
		p.wakeWorker()
		return
	}
	if !p.offer(link, raw) {
		r.stats.HintsIgnored.Add(1)
		p.wakeWorker()
		return
	}
	r.stats.HintsApplied.Add(1)
	r.progress.signal()
}

// Committed gives the replica a link that the caller has just committed. It does what Offer does. It also
// keeps the change until the store's log shows it, because a deposed master may have accepted the commit. The
// link is the decoded form of raw, which SealLink has already opened once.
func (r *Replica) Committed(partition int, link *record.Link, raw []byte) {
	p := r.partitions[partition]
	if p.offer(link, raw) {
		r.progress.signal()
		return
	}
	p.mu.Lock()
	p.pending = append(p.pending, pastLink{Cursor: link.Cursor, raw: raw})
	p.reviewPending()
	p.mu.Unlock()
	p.wakeWorker()
}

func (r *Replica) requestPoll() {
	select {
	case r.pollNow <- struct{}{}:
	default:
	}
}

// progress lets any number of goroutines wait for the next signal. The zero value is ready. It is safe for
// concurrent use.
type progress struct {
	mu   sync.Mutex
	next chan struct{}
}

// wait returns a channel that is closed at the next signal.
func (p *progress) wait() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next == nil {
		p.next = make(chan struct{})
	}
	return p.next
}

func (p *progress) signal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next != nil {
		close(p.next)
		p.next = nil
	}
}
