package serve

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/services/store"
)

const (
	// missed is how many changes of each partition a validator does not hear of. The log keeps the last one
	// only: with two, it does not lead on from what the validator holds.
	missed = 2
	// hearing is how long the others have for what was published, before the log is trimmed: they are not
	// to load anything.
	hearing = 20 * time.Millisecond
	// lookEvery is how often a validator is asked how far it has come, by its metrics: often enough to tell
	// when it has all, and seldom enough to cost it nothing.
	lookEvery = 200 * time.Millisecond
	// resyncPatience is how long a validator may take to load everything.
	resyncPatience = 5 * time.Minute
)

// Victim is a validator that is to load everything anew, again and again.
type Victim struct {
	// User is its account of Redis, and only its own; HTTP is where its metrics are.
	User, HTTP string
	// Every is how long it takes from one time to the next; longer when the validator needs longer.
	Every time.Duration
}

// resyncer does to a validator what a network does that is cut for longer than the log of the store reaches
// back: the validator's account is closed and its connections end; every partition is changed, and the
// changes reach everybody else; the log is trimmed; and the validator is let in again. It finds that the
// log does not lead on from what it holds, and loads every partition anew, while it decides from the old
// one.
type resyncer struct {
	to      *store.Store
	replica *replica.Replica
	client  *redisfeed.Client
	change  func(appID string) store.Call
	// apps has one app for each partition, about which nobody asks.
	apps []string

	stop, done chan struct{}
	// loading gets the first load.
	loading chan struct{}

	mu sync.Mutex
	// times is how often all partitions were loaded, spent how long that took; let is when the validator
	// was let in again that loads now.
	times uint64
	spent time.Duration
	let   time.Time
	err   error
}

func newResyncer(to *store.Store, r *replica.Replica, client *redisfeed.Client, change func(string) store.Call) *resyncer {
	s := &resyncer{to: to, replica: r, client: client, change: change, apps: make([]string, r.Codec().Partitions())}
	for n, left := 0, len(s.apps); left > 0; n++ {
		app := fmt.Sprintf("resynced%06d", n)
		if number := r.Codec().PartitionOf(app); s.apps[number] == "" {
			s.apps[number] = app
			left--
		}
	}
	return s
}

// begin begins with a validator, and returns when the first load has begun, or failed to.
func (s *resyncer) begin(ctx context.Context, v Victim) {
	s.stop, s.done = make(chan struct{}), make(chan struct{})
	s.mu.Lock()
	s.times, s.spent = 0, 0
	s.mu.Unlock()
	s.loading = make(chan struct{}, 1)
	go func() {
		defer close(s.done)
		for {
			next := time.After(v.Every)
			if err := s.once(ctx, v); err != nil {
				s.mu.Lock()
				s.err = fmt.Errorf("resync: %w", err)
				s.mu.Unlock()
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-s.stop:
				return
			case <-next:
			}
			select {
			case <-s.stop: // when both are there, the end comes first
				return
			default:
			}
		}
	}()
	select {
	case <-s.loading:
	case <-s.done:
	}
}

// end ends it when the validator has loaded what it was to load.
func (s *resyncer) end() {
	if s.stop == nil {
		return
	}
	close(s.stop)
	<-s.done
	s.stop = nil
}

// state fills in what has been done so far.
func (s *resyncer) state(to *State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	to.Resyncs, to.ResyncTime = s.times, s.spent
	if !s.let.IsZero() {
		to.Resyncs++
		to.ResyncTime += time.Since(s.let)
	}
	if s.err != nil {
		to.Error = s.err.Error()
	}
}

// once makes a validator load everything. It fails when the validator got there in another way.
func (s *resyncer) once(ctx context.Context, v Victim) error {
	ctx, cancel := context.WithTimeout(ctx, resyncPatience)
	defer cancel()
	before, err := readMetrics(ctx, v.HTTP)
	if err != nil {
		return err
	}
	reached, err := s.cutOff(ctx, v)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.let = time.Now()
	s.mu.Unlock()
	select {
	case s.loading <- struct{}{}:
	default:
	}
	after, err := s.await(ctx, v, reached)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil && after.gaps()-before.gaps() < uint64(len(reached)) {
		err = fmt.Errorf("only %d of %d partitions were loaded", after.gaps()-before.gaps(), len(reached))
	}
	if err == nil {
		s.times++
		s.spent += time.Since(s.let)
	}
	s.let = time.Time{}
	return err
}

// cutOff changes every partition behind the validator's back, and returns what revision each has then. The
// validator may read again when it returns, also with an error.
func (s *resyncer) cutOff(ctx context.Context, v Victim) (reached []uint64, err error) {
	defer func() {
		err = errors.Join(err, s.client.Do(context.WithoutCancel(ctx), "ACL", "SETUSER", v.User, "on").Err())
	}()
	// An account that is closed keeps the connections that it has (Redis, ACL SETUSER).
	for _, command := range [][]any{{"ACL", "SETUSER", v.User, "off"}, {"CLIENT", "KILL", "USER", v.User}} {
		if err := s.client.Do(ctx, command...).Err(); err != nil {
			return nil, err
		}
	}
	reached = make([]uint64, len(s.apps))
	group, changing := errgroup.WithContext(ctx)
	group.SetLimit(changesAtOnce)
	for number, app := range s.apps {
		group.Go(func() error {
			for range missed {
				result, err := s.to.Update(changing, s.change(app))
				if err != nil {
					return err
				}
				reached[number] = result.Position.Revision
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(hearing):
	}
	trim := s.client.Pipeline()
	for number, revision := range reached {
		trim.XTrimMinID(ctx, record.KeysOf(number).Log, fmt.Sprintf("%d-0", revision))
	}
	_, err = trim.Exec(ctx)
	return reached, err
}

// await returns when a validator has reached a revision of each partition.
func (s *resyncer) await(ctx context.Context, v Victim, reached []uint64) (metrics, error) {
	for {
		m, err := readMetrics(ctx, v.HTTP)
		if err != nil {
			return nil, err
		}
		there := true
		for number, revision := range reached {
			there = there && m.revision(number) >= revision
		}
		if there {
			return m, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("the validator has not loaded everything: %w", ctx.Err())
		case <-time.After(lookEvery):
		}
	}
}
