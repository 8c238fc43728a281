package replica

import (
	"errors"
	"time"

	"github.com/countersign/countersign/pkg/record"
)

// unhealedPatience is how long a partition that holds nothing waits for an epoch that an operator began to
// be healed. No authority runs if it takes longer: one that does heals within healing.stallTimeout, which is
// shorter. Then the store as it is decides, or nothing would. It is the time since this process saw the
// epoch, by the monotonic clock.
const unhealedPatience = time.Minute

var errUnhealed = errors.New("the store was restored, or taken as it is, and no authority has healed it yet: what the fleet knows beyond it comes first")

// wait is the first sight of a head that is not followed.
type unhealedHead struct {
	head  record.Cursor
	since time.Time
}

// mustWaitForHealing tells whether a head begins an epoch that is not followed before it is healed. Who holds nothing
// yet would take for good what others know to be revoked. Who holds something would give up what is
// enforced, so it goes on deciding from its last good data, however long that takes. Only whoever heals
// follows at once, to see what is lost.
func (p *partition) mustWaitForHealing(head record.Head) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mustWaitLocked(head)
}

// waits is mustWaitForHealing for a caller that holds the mutex.
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

// Unhealed tells whether a partition is in an epoch that an operator began and that no authority has healed
// yet, and which.
func (r *Replica) Unhealed(partition int) (epoch uint64, unhealed bool) {
	p := r.partitions[partition]
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state.cursor.Epoch, p.state.unhealed
}
