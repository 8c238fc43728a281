package storetest

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
)

var _ replica.Source = (*Store)(nil)

// Step is a point of a read at which a test may interfere.
type Step int

// The steps of reads, in order.
const (
	AllHeads   Step = iota // Heads is about to read
	TailHead               // Tail is about to read the head
	TailLinks              // Tail has read the head and is about to read the log
	ScanStart              // Documents is about to begin
	ScanNext               // Documents is about to read another document
	ScanEnd                // Documents has read them all
	WatchStart             // Watch is about to subscribe
)

// Faults are what a test does to readers. The zero value does nothing.
type Faults struct {
	// Down fails every read and ends every subscription.
	Down error
	// Latency is called for each request and each answer, and returns its delay.
	Latency func() time.Duration
	// Hint decides what happens to a published link: the returned hints are delivered in order. It is called
	// without a lock, in the order of commits.
	Hint func(partition int, raw []byte) [][]byte
	// Step is called without a lock at each step of a read. The partition is 0 for AllHeads and WatchStart.
	// Its error fails the read.
	Step func(step Step, partition int) error
	// Twice shows every document twice to a scan, the second time in its current state.
	Twice bool
}

// Calls counts reads.
type Calls struct {
	Heads, Watches   int
	Tails, Documents []int // by partition
}

func newCalls(partitions int) Calls {
	return Calls{Tails: make([]int, partitions), Documents: make([]int, partitions)}
}

// Fail sets the faults.
func (s *Store) Fail(f Faults) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = f
	if f.Down != nil {
		for f := range s.feeds {
			f.end()
		}
	}
}

// Calls returns the number of reads since the last ResetCalls.
func (s *Store) Calls() Calls {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.calls
	c.Tails, c.Documents = slices.Clone(c.Tails), slices.Clone(c.Documents)
	return c
}

// ResetCalls sets all counts to zero.
func (s *Store) ResetCalls() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = newCalls(len(s.partitions))
}

// enter starts a read: it counts the read, delays it, and fails it as the faults say.
func (s *Store) enter(ctx context.Context, count func(*Calls)) error {
	s.mu.Lock()
	count(&s.calls)
	faults := s.faults
	s.mu.Unlock()
	if faults.Latency != nil {
		select {
		case <-time.After(faults.Latency()):
		case <-ctx.Done():
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.down()
}

func (s *Store) down() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.faults.Down
}

// leave ends a read: it delays the answer.
func (s *Store) leave(ctx context.Context) error { return s.enter(ctx, func(*Calls) {}) }

func (s *Store) step(step Step, partition int) error {
	s.mu.Lock()
	f := s.faults.Step
	s.mu.Unlock()
	if f == nil {
		return nil
	}
	return f(step, partition)
}

// Heads implements replica.Source.
func (s *Store) Heads(ctx context.Context) ([]replica.HeadRead, error) {
	if err := s.enter(ctx, func(c *Calls) { c.Heads++ }); err != nil {
		return nil, err
	}
	if err := s.step(AllHeads, 0); err != nil {
		return nil, err
	}
	s.mu.Lock()
	heads := make([]replica.HeadRead, len(s.partitions))
	for i := range s.partitions {
		heads[i].Raw = s.partitions[i].rawHead
	}
	s.mu.Unlock()
	return heads, s.leave(ctx)
}

// Tail implements replica.Source.
func (s *Store) Tail(ctx context.Context, partition int, after uint64, limit int) ([]byte, []record.RawEntry, error) {
	if err := s.enter(ctx, func(c *Calls) { c.Tails[partition]++ }); err != nil {
		return nil, nil, err
	}
	if err := s.step(TailHead, partition); err != nil {
		return nil, nil, err
	}
	s.mu.Lock()
	head := s.partitions[partition].rawHead
	s.mu.Unlock()
	if err := s.step(TailLinks, partition); err != nil {
		return nil, nil, err
	}
	s.mu.Lock()
	var links []record.RawEntry
	for _, link := range s.partitions[partition].log {
		if link.Revision > after && len(links) < limit {
			links = append(links, link)
		}
	}
	s.mu.Unlock()
	return head, links, s.leave(ctx)
}

// Documents implements replica.Source. Like a scan of Redis it reads each document when its turn comes.
func (s *Store) Documents(ctx context.Context, partition int, each func(appID string, raw []byte)) error {
	if err := s.enter(ctx, func(c *Calls) { c.Documents[partition]++ }); err != nil {
		return err
	}
	if err := s.step(ScanStart, partition); err != nil {
		return err
	}
	s.mu.Lock()
	var apps []string
	for appID := range s.partitions[partition].documents {
		apps = append(apps, appID)
	}
	if s.faults.Twice {
		apps = append(apps, apps...)
	}
	s.mu.Unlock()
	for _, appID := range apps {
		if err := s.step(ScanNext, partition); err != nil {
			return err
		}
		s.mu.Lock()
		raw, ok := s.partitions[partition].documents[appID]
		s.mu.Unlock()
		if ok {
			each(appID, raw)
		}
	}
	if err := s.step(ScanEnd, partition); err != nil {
		return err
	}
	return s.leave(ctx)
}

// feed is one subscription.
type feed struct {
	pending []published // guarded by the store's mutex
	some    chan struct{}
	ended   chan struct{}
}

type published struct {
	partition int
	raw       []byte
}

func (f *feed) end() {
	select {
	case <-f.ended:
	default:
		close(f.ended)
	}
}

// Watch implements replica.Source.
func (s *Store) Watch(ctx context.Context, hint func(partition int, raw []byte)) error {
	if err := s.enter(ctx, func(c *Calls) { c.Watches++ }); err != nil {
		return err
	}
	if err := s.step(WatchStart, 0); err != nil {
		return err
	}
	f := &feed{some: make(chan struct{}, 1), ended: make(chan struct{})}
	s.mu.Lock()
	s.feeds[f] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.feeds, f)
	}()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-f.ended:
			return errors.New("storetest: the subscription was cut")
		case <-f.some:
		}
		s.mu.Lock()
		pending := f.pending
		f.pending = nil
		s.mu.Unlock()
		for _, p := range pending {
			hint(p.partition, p.raw)
		}
	}
}

// CutWatches ends every subscription. Undelivered hints are lost.
func (s *Store) CutWatches() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for f := range s.feeds {
		f.end()
	}
}

// publish delivers a link to every subscription, as the faults say.
func (s *Store) publish(partition int, raw []byte) {
	s.mu.Lock()
	filter := s.faults.Hint
	s.mu.Unlock()
	hints := [][]byte{raw}
	if filter != nil {
		hints = filter(partition, raw)
	}
	for _, hint := range hints {
		s.Publish(partition, hint)
	}
}

// Publish delivers any bytes to every subscription.
func (s *Store) Publish(partition int, raw []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for f := range s.feeds {
		f.pending = append(f.pending, published{partition, raw})
		select {
		case f.some <- struct{}{}:
		default:
		}
	}
}
