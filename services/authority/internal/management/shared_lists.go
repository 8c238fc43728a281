package management

import (
	"context"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	// maxListing is how many lists are made at the same time. Each of them uses all processors.
	maxListing = 2
	// listTimeout bounds the making of one list.
	listTimeout = 2 * time.Minute
	// listReuse is how long a list serves further first pages after it was made. maxReused is how many lists
	// do.
	listReuse = 5 * time.Second
	maxReused = 4
)

// sharedLists makes lists, each once for all callers that ask for it at the same time. Make one with
// newSharedLists. It is safe for concurrent use.
type sharedLists struct {
	slots *semaphore.Weighted
	mu    sync.Mutex
	// all are the lists that wait for a slot, are being made, or are reused, by the start of their counts.
	all map[time.Time]*sharedList
	// reused are the lists that are made, the oldest first.
	reused []*sharedList
}

// sharedList is one list of sharedLists. The mutex guards its fields until done is closed.
type sharedList struct {
	start time.Time
	// waiting is how many callers wait for the list. begun says that it has its slot. A list that has not
	// begun is given up when its last caller leaves.
	waiting int
	begun   bool
	giveUp  context.CancelFunc
	// done is closed when list and err are set.
	done chan struct{}
	list *snapshot
	err  error
	// expiry ends the reuse of the list.
	expiry *time.Timer
}

func newSharedLists() *sharedLists {
	return &sharedLists{slots: semaphore.NewWeighted(maxListing), all: map[time.Time]*sharedList{}}
}

// get returns the list of the counts since start. It calls create to make the list, unless another call makes
// it now or has made it a moment ago. The context of create outlives the caller's, since others may wait for
// the same list.
func (s *sharedLists) get(ctx context.Context, start time.Time, create func(context.Context) (*snapshot, error),
) (*snapshot, error) {
	one := s.join(ctx, start, create)
	defer s.leave(one)
	select {
	case <-one.done:
		return one.list, one.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *sharedLists) join(ctx context.Context, start time.Time, create func(context.Context) (*snapshot, error),
) *sharedList {
	s.mu.Lock()
	defer s.mu.Unlock()
	one := s.all[start]
	if one == nil {
		one = &sharedList{start: start, done: make(chan struct{})}
		s.all[start] = one
		ctx, one.giveUp = context.WithCancel(context.WithoutCancel(ctx))
		go s.run(ctx, one, create)
	}
	one.waiting++
	return one
}

// leave is called when a caller does not wait any more.
func (s *sharedLists) leave(one *sharedList) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if one.waiting--; one.waiting == 0 && !one.begun {
		one.giveUp()
		s.remove(one)
	}
}

// run makes a list when it has a slot.
func (s *sharedLists) run(ctx context.Context, one *sharedList, create func(context.Context) (*snapshot, error)) {
	defer one.giveUp()
	if s.slots.Acquire(ctx, 1) != nil {
		return
	}
	defer s.slots.Release(1)
	s.mu.Lock()
	one.begun = true
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	one.list, one.err = create(ctx)
	s.end(one)
}

// end gives a list to its callers and, unless it failed, to those of the next seconds.
func (s *sharedLists) end(one *sharedList) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(one.done)
	if one.err != nil {
		s.remove(one)
		return
	}
	one.expiry = time.AfterFunc(listReuse, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.remove(one)
	})
	if s.reused = append(s.reused, one); len(s.reused) > maxReused {
		s.remove(s.reused[0])
	}
}

// remove makes later callers make the list anew. The caller holds the mutex.
func (s *sharedLists) remove(one *sharedList) {
	if s.all[one.start] == one {
		delete(s.all, one.start)
	}
	if one.expiry != nil {
		one.expiry.Stop() // it holds the list
		s.reused = slices.DeleteFunc(s.reused, func(other *sharedList) bool { return other == one })
	}
}
