package faults

import (
	"slices"
	"sync"
	"time"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// receiptCounts are what came of the changes that waited for a receipt.
type receiptCounts struct {
	Complete, Incomplete int
	P50, P99             time.Duration
}

// receipts collects them.
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
	unearned   = "a receipt is complete though a validator may answer without the change"
	incomplete = "a receipt is not complete though nothing is wrong"
	unnamed    = "a receipt does not name a validator that was stopped"
	impossible = "a receipt says that a validator has applied what it cannot have"
)

// judgeReceipt looks at the receipt of a change that was first asked for at a time, and last at another
// (B24).
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

// judgeStopped looks at what a receipt says of a validator that has not run since before the change was
// asked for.
func (c *campaign) judgeStopped(s *seat, since, now moment, got *countersignv1.Receipt) {
	i := slices.IndexFunc(got.GetValidators(), func(e *countersignv1.ReceiptEntry) bool { return e.GetValidatorId() == s.id })
	if i < 0 {
		// A store that was wiped knows of it again when it reports.
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

// leaseEnds is how long an authority that was just started may take to tell who reports.
const leaseEnds = calmEnough + 5*time.Second

// memberFor is how long a validator that reports takes at most until the store says that it is a member.
const memberFor = 15 * time.Second

// wiped tells whether the store may have lacked what it had for long, since a time.
func (o *oracle) wiped(since moment) bool {
	return slices.ContainsFunc(*o.losses.Load(), func(l *loss) bool {
		until := moment(l.until.Load())
		return l.Whole && (until == 0 || until > since)
	})
}
