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

// Reach returns when a partition holds every change up to a cursor. It returns ErrLost or ErrNotReached
// otherwise.
//
// A caller gets one read of the store that begins after the call, because a change that was made before the
// call is then found. All callers of a partition share that read; asks says how often there is one. What
// comes later arrives by hints and polls, so a cursor that nobody gave out costs no further read, however
// long its caller waits.
func (r *Replica) Reach(ctx context.Context, partition int, target record.Cursor) error {
	p := r.partitions[partition]
	if reached, err := p.reached(target); reached || err != nil {
		return err
	}
	p.asks.ask()
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

func (p *partition) reached(target record.Cursor) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	cursor := p.held.cursor
	switch {
	case p.held.rows == nil || cursor.Epoch < target.Epoch || cursor.Epoch == target.Epoch && cursor.Revision < target.Revision:
		return false, nil
	case target.Epoch < cursor.Epoch:
		if !p.past.agrees(target) || !p.held.before(target) {
			return false, ErrLost
		}
		return true, nil
	case !p.past.agrees(target):
		// In its place stands a hint that no read has borne out: the store may have the target all the same.
		if target.Revision > p.confirmed.Revision {
			return false, nil
		}
		return false, ErrLost
	}
	return true, nil
}

// Confirm returns when every partition that can be loaded is, and was seen to be complete by a read of the
// store that was sent after the call. It returns ErrNotReached otherwise.
func (r *Replica) Confirm(ctx context.Context) error {
	since := time.Now()
	r.requestPoll()
	return r.until(ctx, func() bool {
		return r.every(func(p *partition) bool { return p.settled() && p.fresh.reached(since) || !p.settled() && p.available() })
	})
}

// WaitLoaded returns when every partition is loaded, or ErrNotReached.
func (r *Replica) WaitLoaded(ctx context.Context) error {
	return r.until(ctx, func() bool {
		return r.every(func(p *partition) bool { return p.settled() && p.fresh.reached(time.Time{}) })
	})
}

func (r *Replica) every(is func(*partition) bool) bool {
	return !slices.ContainsFunc(r.partitions, func(p *partition) bool { return !is(p) })
}

// until returns when a condition holds that may change when a partition gets on, or ErrNotReached when ctx
// ends first.
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

// Loaded tells whether every partition is loaded; one that was given its data, by Import, after the store
// has added to it, if it answers. Once true, it stays true.
func (r *Replica) Loaded() bool {
	return !slices.ContainsFunc(r.partitions, func(p *partition) bool { return !p.settled() })
}

// settled tells whether the partition decides: it was loaded, or was given its data and the store was asked
// since the start, and has nothing to add, or did not answer.
func (p *partition) settled() bool { return p.r.table.Partition(p.number) != nil }

// settle lets the partition decide from what it holds. The caller holds the mutex.
func (p *partition) settle() {
	if p.held.rows != nil && p.r.table.Partition(p.number) != p.held.rows {
		p.r.table.Swap(p.number, p.held.rows)
	}
}

// maxVain is how many times in succession the store is asked in vain until a replica that was given its
// data does without.
const maxVain = 3

// lookedInVain notes that the store did not answer about the partition.
func (p *partition) lookedInVain() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.vain++; p.vain >= maxVain {
		p.settle()
	}
}

// answered notes that it did.
func (p *partition) answered() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.vain = 0
}

// Age returns how long ago a partition was last known to be complete; 0 before it is loaded.
func (r *Replica) Age(partition int, now time.Time) time.Duration {
	age, _ := r.partitions[partition].fresh.age(r.stamp(now))
	return age
}

// State returns a partition's cursor and sum, which belong together; false before it is loaded.
func (r *Replica) State(partition int) (record.Cursor, record.Sum, bool) {
	p := r.partitions[partition]
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.held.cursor, p.held.sum, p.held.rows != nil
}
