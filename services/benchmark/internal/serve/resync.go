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
	// missed is the number of changes of each partition that a validator misses. The trimmed log has only the
	// last change, so with two it no longer reaches back to the validator's cursor.
	missed = 2
	// hintTime is the time between the changes and the trimming of the log. In it the other processes receive
	// the hints, so that they need not resync.
	hintTime = 20 * time.Millisecond
	// pollEvery is the time between two reads of a validator's metrics during a resync: short enough to
	// notice the end of the resync, and long enough to cost the validator nothing.
	pollEvery = 200 * time.Millisecond
	// resyncTimeout bounds the time of one resync.
	resyncTimeout = 5 * time.Minute
)

// Target is a validator to resync repeatedly.
type Target struct {
	// User is the validator's own Redis account, HTTP the address of its metrics.
	User, HTTP string
	// Every is the time between the beginnings of two resyncs. A slow resync delays the next one.
	Every time.Duration
}

// resyncer makes a validator load the whole store again, like a network failure that lasts until the store's
// log no longer reaches back.
//
// It closes the validator's account and connections, changes every partition, waits until all others have the
// changes, trims the logs, and opens the account again. The validator finds that the logs do not continue its
// cursors. It loads every partition again, and decides from the old data meanwhile.
type resyncer struct {
	to      *store.Store
	replica *replica.Replica
	client  *redisfeed.Client
	change  func(appID string) store.Call
	// apps has one app of each partition. No question is about them.
	apps []string

	stop, done chan struct{}
	// loading receives a value when the first resync has begun.
	loading chan struct{}

	mu sync.Mutex
	// times is the number of finished resyncs, spent their total time. let is the moment at which the account
	// was opened for the resync in progress; zero when there is none.
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

// begin begins the resyncs of a validator. It returns when the first resync has begun or failed.
func (s *resyncer) begin(ctx context.Context, v Target) {
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
			case <-s.stop: // the end has priority over the next resync
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

// end ends the resyncs. It returns when the resync in progress is done.
func (s *resyncer) end() {
	if s.stop == nil {
		return
	}
	close(s.stop)
	<-s.done
	s.stop = nil
}

// state fills in the fields about resyncs.
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

// once makes one resync. It fails when the validator caught up without loading every partition.
func (s *resyncer) once(ctx context.Context, v Target) error {
	ctx, cancel := context.WithTimeout(ctx, resyncTimeout)
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

// cutOff changes every partition while the validator is cut off, and returns the new revision of each. The
// validator may read again when cutOff returns, also with an error.
func (s *resyncer) cutOff(ctx context.Context, v Target) (reached []uint64, err error) {
	defer func() {
		err = errors.Join(err, s.client.Do(context.WithoutCancel(ctx), "ACL", "SETUSER", v.User, "on").Err())
	}()
	// A closed account keeps its open connections (Redis, ACL SETUSER).
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
	case <-time.After(hintTime):
	}
	trim := s.client.Pipeline()
	for number, revision := range reached {
		trim.XTrimMinID(ctx, record.KeysOf(number).Log, fmt.Sprintf("%d-0", revision))
	}
	_, err = trim.Exec(ctx)
	return reached, err
}

// await returns the metrics when the validator has reached the given revision of each partition.
func (s *resyncer) await(ctx context.Context, v Target, reached []uint64) (metrics, error) {
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
			return nil, fmt.Errorf("the validator has not reached all changes: %w", ctx.Err())
		case <-time.After(pollEvery):
		}
	}
}
