package faults

import (
	"slices"
	"sync"
	"time"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// receiptCounts counts the outcomes of changes that waited for a receipt.
type receiptCounts struct {
	Complete, Incomplete int
	P50, P99             time.Duration
}

// receipts collects the counts.
type receipts struct {
	mu   sync.Mutex
	all  receiptCounts
	took []time.Duration
}

func (r *receipts) add(complete bool, took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !complete {
		r.all.Incomplete++
		return
	}
	r.all.Complete++
	r.took = append(r.took, took)
}

func (r *receipts) counts() receiptCounts {
	r.mu.Lock()
	defer r.mu.Unlock()
	if slices.Sort(r.took); len(r.took) > 0 {
		r.all.P50, r.all.P99 = r.took[len(r.took)/2], r.took[len(r.took)*99/100]
	}
	return r.all
}

const (
	unearned   = "a receipt is complete although a validator may answer without the change"
	incomplete = "a receipt is incomplete although nothing is wrong"
	unnamed    = "a receipt does not name a validator that was stopped"
	impossible = "a receipt says APPLIED of a validator that cannot have the change"
)

// judgeReceipt judges the receipt of a change (B24). It needs the times at which the change was first and
// last sent.
func (c *campaign) judgeReceipt(asked, sent moment, got *countersignv1.Receipt) {
	now := c.oracle.now()
	if !got.GetComplete() && c.calmFor() > leaseEnds+time.Duration(now-asked) {
		c.oracle.violate(incomplete, now, "nothing was wrong for %s: %v", c.calmFor(), got)
	}
	for _, entry := range got.GetValidators() {
		s := c.seatOf(entry.GetValidatorId())
		switch state := entry.GetState(); {
		case s == nil:
		case got.GetComplete() && state != countersignv1.PropagationState_PROPAGATION_STATE_APPLIED &&
			(state != countersignv1.PropagationState_PROPAGATION_STATE_FENCED || !s.fenced()):
			c.oracle.violate(unearned, now, "%s is %s", s.id, state)
		}
	}
	for _, s := range c.seats {
		if since := moment(s.stopped.Load()); since != 0 && since < sent {
			c.judgeStopped(s, since, now, got)
		}
	}
}

// judgeStopped judges what a receipt says about a validator that was suspended before the change was sent.
func (c *campaign) judgeStopped(s *seat, since, now moment, got *countersignv1.Receipt) {
	i := slices.IndexFunc(got.GetValidators(), func(e *countersignv1.ReceiptEntry) bool { return e.GetValidatorId() == s.id })
	if i < 0 {
		// After a wipe, the store knows the validator again only when the validator reports.
		if got.GetComplete() && !c.oracle.wiped(since-moment(memberFor)) {
			c.oracle.violate(unnamed, now, "%s, stopped at %s", s.id, since)
		}
		return
	}
	switch state := got.GetValidators()[i].GetState(); state {
	case countersignv1.PropagationState_PROPAGATION_STATE_APPLIED:
		if moment(s.stopped.Load()) == since {
			c.oracle.violate(impossible, now, "%s, stopped at %s", s.id, since)
		}
	case countersignv1.PropagationState_PROPAGATION_STATE_LOST:
		c.stats.reach(stoppedLost)
	case countersignv1.PropagationState_PROPAGATION_STATE_PENDING:
		c.stats.reach(stoppedPending)
	case countersignv1.PropagationState_PROPAGATION_STATE_FENCED:
		if got.GetComplete() {
			c.stats.reach(stoppedFenced)
		}
	}
}

// leaseEnds is how long a restarted authority may take to know which validators report.
const leaseEnds = calmEnough + 5*time.Second

// memberFor is how long a reporting validator takes, at most, to become a member in the store.
const memberFor = 15 * time.Second

// wiped reports whether the store may have lost old content since a given time.
func (o *oracle) wiped(since moment) bool {
	return slices.ContainsFunc(*o.losses.Load(), func(l *loss) bool {
		until := moment(l.until.Load())
		return l.Whole && (until == 0 || until > since)
	})
}
