package replica

import (
	"errors"
	"time"

	"github.com/countersign/countersign/pkg/record"
)

// unhealedPatience is how long an empty partition waits for the healing of an epoch that an operator began.
// It exceeds healing.patience, within which a running authority heals, so after it no authority runs. The
// partition then loads the store as it is. The time counts from when this process first saw the epoch, by the
// monotonic clock.
const unhealedPatience = time.Minute

var errUnhealed = errors.New("the store was restored, or taken as it is, and no authority has healed it yet: " +
	"what the fleet knows beyond it comes first")

// unhealedHead is a head that is not followed, and when it was first seen.
type unhealedHead struct {
	head  record.Cursor
	since time.Time
}

// mustWaitForHealing reports whether a head begins an epoch that must be healed before it is followed. An
// empty partition would miss revocations that the fleet knows. A loaded one would drop enforcement that the
// store has lost, so it serves its last good data for however long the healing takes. Only a process that
// heals follows at once, to see what is lost.
func (p *partition) mustWaitForHealing(head record.Head) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mustWaitLocked(head)
}

// mustWaitLocked is mustWaitForHealing for a caller that holds the mutex.
func (p *partition) mustWaitLocked(head record.Head) bool {
	if !head.Unhealed || p.r.heals || head.Epoch <= p.state.cursor.Epoch {
		return false
	}
	if p.state.rows != nil {
		return true
	}
	if p.unhealedHead.head != head.Cursor {
		p.unhealedHead = unhealedHead{head: head.Cursor, since: time.Now()}
	}
	return time.Since(p.unhealedHead.since) < unhealedPatience
}

// Unhealed returns a partition's epoch, and whether an operator began it and no authority has healed it yet.
func (r *Replica) Unhealed(partition int) (epoch uint64, unhealed bool) {
	p := r.partitions[partition]
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state.cursor.Epoch, p.state.unhealed
}
