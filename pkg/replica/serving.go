package replica

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	// unloadableAfter is how many failed attempts in a row show that a partition cannot be loaded. One or two
	// may fail because the store is slow or changes meanwhile.
	unloadableAfter = 3
	// maxUnanswered is the number of unanswered polls in a row after which an imported partition serves
	// without the store.
	maxUnanswered = 3
)

// serves reports whether the partition serves readers. A loaded partition serves at once. An imported one
// serves once a poll has shown that the store has nothing newer, or once maxUnanswered polls in a row got no
// answer.
func (p *partition) serves() bool { return p.r.table.Partition(p.number) != nil }

// serve shows the current state to readers. The caller holds the mutex.
func (p *partition) serve() {
	if p.state.rows != nil && p.r.table.Partition(p.number) != p.state.rows {
		p.r.table.Swap(p.number, p.state.rows)
	}
}

// noteUnanswered records that a poll got no answer about the partition.
func (p *partition) noteUnanswered() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.unanswered++; p.unanswered >= maxUnanswered {
		p.serve()
	}
}

// noteAnswered records that a poll got an answer about the partition.
func (p *partition) noteAnswered() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unanswered = 0
}

// noteAttempt records the result of an attempt to bring the partition up to the head.
func (p *partition) noteAttempt(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		p.failedAttempts = 0
		return
	}
	p.failedAttempts++
	if p.state.rows == nil || p.stale != "" {
		p.failure = err
	}
}

// Loaded reports whether every partition serves: it was loaded, or imported and then compared with the
// store if the store answers. Once true, it stays true.
func (r *Replica) Loaded() bool {
	return !slices.ContainsFunc(r.partitions, func(p *partition) bool { return !p.serves() })
}

// Unserved is a partition that does not serve yet.
type Unserved struct {
	Partition int
	// Why says why the partition cannot be loaded; nil while the load may only need time.
	Why error
	// Forked says that the store denies changes that were confirmed, or has no head.
	Forked bool

	// latest is the error of the latest failed load; nil when there was none.
	latest error
}

// Unserved returns the partitions that do not serve yet, in ascending order.
func (r *Replica) Unserved() (all []Unserved) {
	for _, p := range r.partitions {
		if !p.serves() {
			all = append(all, p.unserved())
		}
	}
	return all
}

func (p *partition) unserved() Unserved {
	p.mu.Lock()
	defer p.mu.Unlock()
	u := Unserved{Partition: p.number, latest: p.failure}
	switch {
	case p.failedAttempts >= unloadableAfter:
		u.Why, u.Forked = p.failure, p.forked
	case p.refusal != "":
		u.Why, u.Forked = errors.New(p.refusal), p.forked
	}
	return u
}

// Unloaded returns an error that says how many partitions do not serve yet, and why. The reason is that of
// the first partition with a lasting failure, if there is one. It returns nil when every partition serves.
// The text holds no names and no addresses.
func (r *Replica) Unloaded() error {
	unserved := r.Unserved()
	if len(unserved) == 0 {
		return nil
	}
	why := "they are being read"
	for _, u := range unserved {
		if text := failureText(u.latest); text != "" {
			why = fmt.Sprintf("partition %d: %s", u.Partition, text)
			break
		}
		if u.latest != nil {
			why = "the store cannot be read"
		}
	}
	return fmt.Errorf("the policies are not loaded yet: %d of %d partitions are missing; %s",
		len(unserved), len(r.partitions), why)
}

// Tried reports whether at least one partition serves, and every other one serves too or cannot be loaded.
func (r *Replica) Tried() bool {
	unserved := r.Unserved()
	return len(unserved) < len(r.partitions) &&
		!slices.ContainsFunc(unserved, func(u Unserved) bool { return u.Why == nil })
}

// WaitTried returns when Tried holds, or ErrNotReached when ctx ends first.
func (r *Replica) WaitTried(ctx context.Context) error { return r.until(ctx, r.Tried) }

// LeastAge returns the age of the partition that was last known to be complete most recently. Partitions
// that do not serve yet, or that wait for a healing, do not count. It returns false when none counts.
func (r *Replica) LeastAge(now time.Time) (least time.Duration, some bool) {
	at := r.stamp(now)
	for _, p := range r.partitions {
		if _, unhealed := r.Unhealed(p.number); unhealed || !p.serves() || !p.fresh.reached(time.Time{}) {
			continue
		}
		if age, _ := p.fresh.age(at); !some || age < least {
			least, some = age, true
		}
	}
	return least, some
}
