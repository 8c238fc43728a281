package replica

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/countersign/countersign/pkg/record"
)

var (
	// ErrNotReached says that a position was not reached before the context ended.
	ErrNotReached = errors.New("replica: position not reached in time")
	// ErrLost says that a position is not in the store's past: a failover lost the change that it names.
	ErrLost = errors.New("replica: position is not in the store's past")
)

// Reach returns nil once a partition holds every change up to a cursor. Otherwise it returns ErrLost, or
// ErrNotReached when ctx ends first.
//
// Each caller gets one read of the store that begins after the call, because such a read finds a change that
// was made before the call. All callers of a partition share that read; readRequests bounds how often it
// happens. Later changes arrive by hints and polls, so a made-up cursor causes no further reads, however
// long its caller waits.
func (r *Replica) Reach(ctx context.Context, partition int, target record.Cursor) error {
	p := r.partitions[partition]
	if reached, err := p.reached(target); reached || err != nil {
		return err
	}
	p.requests.add()
	for {
		next := p.progress.wait()
		if reached, err := p.reached(target); reached || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ErrNotReached
		case <-next:
		}
	}
}

// Reached reports whether a partition holds every change up to a cursor. It reads nothing from the store,
// so a false may become true later. It returns ErrLost when the cursor is not in the store's past.
func (r *Replica) Reached(partition int, target record.Cursor) (bool, error) {
	return r.partitions[partition].reached(target)
}

func (p *partition) reached(target record.Cursor) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	cursor := p.state.cursor
	switch {
	case p.state.rows == nil || cursor.Before(target):
		return false, nil
	case target.Epoch < cursor.Epoch:
		if !p.past.agrees(target) || !p.state.before(target) {
			return false, ErrLost
		}
		return true, nil
	case !p.past.agrees(target):
		// This revision came as a hint that no read has confirmed. The store may still have the target.
		if target.Revision > p.confirmed.Revision {
			return false, nil
		}
		return false, ErrLost
	}
	return true, nil
}

// Confirm returns nil once every partition was complete at a read of the store that was sent after the
// call. Partitions that cannot be loaded do not count. It returns ErrNotReached when ctx ends first.
func (r *Replica) Confirm(ctx context.Context) error {
	since := time.Now()
	r.requestPoll()
	return r.until(ctx, func() bool {
		return r.every(func(p *partition) bool {
			if p.serves() {
				return p.fresh.reached(since)
			}
			return p.unserved().Why != nil
		})
	})
}

// WaitLoaded returns nil once every partition serves data that is known to have been complete at some time.
// It returns ErrNotReached when ctx ends first.
func (r *Replica) WaitLoaded(ctx context.Context) error {
	return r.until(ctx, func() bool {
		return r.every(func(p *partition) bool { return p.serves() && p.fresh.reached(time.Time{}) })
	})
}

func (r *Replica) every(holds func(*partition) bool) bool {
	return !slices.ContainsFunc(r.partitions, func(p *partition) bool { return !holds(p) })
}

// until waits for a condition that can change only when a partition makes progress. It returns
// ErrNotReached when ctx ends first.
func (r *Replica) until(ctx context.Context, holds func() bool) error {
	for {
		next := r.progress.wait()
		if holds() {
			return nil
		}
		select {
		case <-ctx.Done():
			return ErrNotReached
		case <-next:
		}
	}
}
