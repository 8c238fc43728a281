package ledger

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/usage"
	"github.com/countersign/countersign/services/store"
)

const (
	// MaxWaiting bounds the counts of all batches that wait to be added. They take about 150 MB.
	MaxWaiting = 1 << 20
	// addTimeout bounds an addition. A validator sends its batch again after usage.ResendAfter.
	addTimeout = usage.ResendAfter - time.Second
	// coverageLife is how long it is known how far the counts of an instance are complete.
	coverageLife = Days * 24 * time.Hour
	// endedLife is how long the coverage of an instance that has ended is kept at least.
	endedLife = time.Hour
	// runningLife is how recently an instance must have been heard to count as running.
	runningLife = 2 * time.Hour
	// tidyInterval is how often older coverage is removed.
	tidyInterval = time.Hour
	// beginInterval is how often it is looked at whether Redis says since when it keeps counts, beginAgain
	// how often while that fails.
	beginInterval = time.Minute
	beginAgain    = time.Second
	// newStore is the age up to which a store has no past: counts that begin now lack nothing.
	newStore = 10 * time.Minute
)

// ErrBusy says that too many batches wait to be added.
var ErrBusy = errors.New("too many usage counts wait to be added")

// Storage keeps packed counts; see store.Counts. It must be safe for concurrent use.
type Storage interface {
	Look(ctx context.Context, partition int, instances, apps []string) ([]store.LastBatch, []store.AppCounts, error)
	Read(ctx context.Context, partition int, apps []string) (counts []store.AppCounts, since time.Time, err error)
	Write(ctx context.Context, w store.CountsWrite) (done bool, err error)
	Begin(ctx context.Context, partitions int, since time.Time) error
	Keep(ctx context.Context, partition int, instances []string) error
	Cover(ctx context.Context, instanceID string, value []byte) error
	Covered(ctx context.Context) (coverage map[string]string, since time.Time, err error)
	Uncover(ctx context.Context, instances []string) error
}

// Apps says which tokens an app has. It must be safe for concurrent use, and must not block.
type Apps interface {
	// Tokens returns the ids of an app's tokens in any state, or false for an app without a policy. The error
	// says that this is not known now.
	Tokens(appID string) (ids map[string]bool, known bool, err error)
}

// Config configures a Ledger. Every field but Now is required.
type Config struct {
	Storage    Storage
	Partitions int
	// StoreCreated is when the store was made.
	StoreCreated time.Time
	Apps         Apps
	// KnownScope tells the scopes of the contract. Counts of others are dropped.
	KnownScope func(policy.Scope) bool
	Metrics    *Metrics
	Log        *slog.Logger
	// Now is the time of day; nil means the machine's clock.
	Now func() time.Time
}

// Ledger adds batches of counts, and reads the counts. Make one with New, and start it with Run. It is safe
// for concurrent use.
type Ledger struct {
	config Config
	queues []*queue
	// damaged makes the log name the first damaged record only.
	damaged sync.Once
	// warned is when the log has last said that an addition failed.
	warned atomic.Pointer[time.Time]
}

// New returns a ledger. It adds nothing until Run.
func New(config Config) *Ledger {
	if config.Now == nil {
		config.Now = time.Now
	}
	l := &Ledger{config: config}
	waiting := &waiting{}
	for range config.Partitions {
		l.queues = append(l.queues, &queue{all: waiting, wake: make(chan struct{}, 1)})
	}
	return l
}

// Run adds batches until ctx ends, which is not an error.
func (l *Ledger) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for partition := range l.queues {
		group.Go(func() error { l.work(ctx, partition); return nil })
	}
	group.Go(func() error { l.begin(ctx); return nil })
	group.Go(func() error { l.tidy(ctx); return nil })
	return group.Wait()
}

// Add adds a batch of an instance of a validator, unless it was added before or an earlier one is missing. It
// returns the number of the last batch of the partition that was added. A batch without counts adds nothing.
// After an error the batch may have been added; it may be added again with the same number and counts.
func (l *Ledger) Add(ctx context.Context, instanceID string, batch *usage.Batch) (counted uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, addTimeout)
	defer cancel()
	j := &job{instance: instanceID, batch: batch, done: make(chan outcome, 1)}
	q := l.queues[batch.Partition]
	if !q.put(j) {
		l.config.Metrics.failures.Inc()
		return 0, ErrBusy
	}
	select {
	case o := <-j.done:
		return o.counted, o.err
	case <-ctx.Done():
		q.remove(j)
		return 0, ctx.Err()
	}
}

// App returns the counts of an app.
func (l *Ledger) App(ctx context.Context, appID string) (History, error) {
	hash := policy.HashApp(appID)
	all, err := l.Apps(ctx, hash.Partition(len(l.queues)), []string{appID})
	return all[appID], err
}

// Apps returns the counts of some apps of a partition, by app. It makes one round trip to Redis.
func (l *Ledger) Apps(ctx context.Context, partition int, appIDs []string) (map[string]History, error) {
	found, since, err := l.config.Storage.Read(ctx, partition, appIDs)
	if err != nil {
		return nil, err
	}
	now := l.config.Now()
	if since.IsZero() {
		since = now
	}
	all := make(map[string]History, len(found))
	for i := range found {
		a, whole := l.open(&found[i])
		all[found[i].AppID] = History{account: a, now: now, counted: Counted{Since: since, Damaged: !whole}}
	}
	return all, nil
}

// open decodes the counts of an app, and reports whether it could decode all of them. A damaged record counts
// as an empty one, so that the app's next counts are not lost as well.
func (l *Ledger) open(raw *store.AppCounts) (a account, whole bool) {
	whole = true
	for _, part := range []struct {
		to      *block
		raw     []byte
		minutes int64
	}{
		{&a.running, raw.Running, minutesOfHour},
		{&a.hours, raw.Hours, minutesOfHour},
		{&a.days, raw.Days, hoursOfDay * minutesOfHour},
	} {
		var err error
		if *part.to, err = unpack(part.raw, part.minutes); err != nil {
			whole = false
			l.config.Metrics.damaged.Inc()
			l.damaged.Do(func() {
				l.config.Log.Error("usage counts in Redis are damaged; they begin anew", "app", raw.AppID, "error", err)
			})
		}
	}
	return a, whole
}

// queue has the batches of one partition that wait to be added.
type queue struct {
	all  *waiting
	wake chan struct{}
	mu   sync.Mutex
	jobs []*job
}

// waiting counts what waits in all queues.
type waiting struct {
	mu     sync.Mutex
	counts int
}

// add adds to the number of waiting counts. It returns false, and adds nothing, if there would be too many.
func (w *waiting) add(n int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n > 0 && w.counts+n > MaxWaiting {
		return false
	}
	w.counts += n
	return true
}

// job is a batch that waits.
type job struct {
	instance string
	batch    *usage.Batch
	done     chan outcome
}

// weight is what a job costs; also one without counts.
func (j *job) weight() int { return 1 + len(j.batch.Counts) }

type outcome struct {
	counted uint64
	err     error
}

func (q *queue) put(j *job) bool {
	if !q.all.add(j.weight()) {
		return false
	}
	q.mu.Lock()
	q.jobs = append(q.jobs, j)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return true
}

// remove takes a job out that nobody waits for any more.
func (q *queue) remove(j *job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if i := slices.Index(q.jobs, j); i >= 0 {
		q.jobs = slices.Delete(q.jobs, i, i+1)
		q.all.add(-j.weight())
	}
}

// take takes the jobs that are added together: at least one, and as many as one script may add.
func (q *queue) take() []*job {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, weight := 0, 0
	for n < len(q.jobs) && (n == 0 || weight+q.jobs[n].weight() <= maxTogether) {
		weight += q.jobs[n].weight()
		n++
	}
	jobs := slices.Clone(q.jobs[:n])
	q.jobs = slices.Delete(q.jobs, 0, n)
	return jobs
}
