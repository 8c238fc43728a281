package replica

import (
	"context"
	"errors"
	"time"
)

// failedAfter is how many tries in a row fail until a partition counts as one that cannot be loaded. A
// store that is slow, or that others change meanwhile, fails one or two.
const failedAfter = 3

// Unserved is a partition that holds nothing yet.
type Unserved struct {
	Partition int
	// Why says why the partition cannot be loaded; nil when it may only take its time.
	Why error
	// Forked says that the store is below what was confirmed, or has no head.
	Forked bool
}

// Unserved returns the partitions that hold nothing yet, in ascending order.
func (r *Replica) Unserved() (all []Unserved) {
	for _, p := range r.partitions {
		if !p.settled() {
			forked, why := p.hindrance()
			all = append(all, Unserved{p.number, why, forked})
		}
	}
	return all
}

// hindrance returns why the partition cannot be loaded; nil when it may be under way.
func (p *partition) hindrance() (forked bool, why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.failed >= failedAfter:
		return p.forked, p.trouble
	case p.alarm != "":
		return p.forked, errors.New(p.alarm)
	}
	return false, nil
}

// tried notes what a try to bring the partition to the head has come to.
func (p *partition) tried(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		p.failed = 0
		return
	}
	p.failed++
	if p.held.rows == nil || p.stale != "" {
		p.trouble = err
	}
}

// available tells whether the partition decides, or it is known that it cannot.
func (p *partition) available() bool {
	_, why := p.hindrance()
	return why != nil || p.settled()
}

// WaitTried returns when every partition is loaded or is known not to be loadable, and at least one is
// loaded; ErrNotReached when ctx ends first.
func (r *Replica) WaitTried(ctx context.Context) error {
	return r.until(ctx, r.Tried)
}

// Tried tells whether every partition is loaded or is known not to be loadable, and at least one is loaded.
func (r *Replica) Tried() bool {
	some := false
	for _, p := range r.partitions {
		if !p.available() {
			return false
		}
		some = some || p.settled()
	}
	return some
}

// LeastAge returns how long ago that partition was known to be complete of which this was seen last.
// Partitions that hold nothing yet, and those that wait to be healed, do not count; false when all are
// such.
func (r *Replica) LeastAge(now time.Time) (least time.Duration, some bool) {
	at := r.stamp(now)
	for _, p := range r.partitions {
		if _, unhealed := r.Unhealed(p.number); unhealed || !p.settled() || !p.fresh.reached(time.Time{}) {
			continue
		}
		if age, _ := p.fresh.age(at); !some || age < least {
			least, some = age, true
		}
	}
	return least, some
}
