package usage

import (
	"slices"
	"time"
)

const (
	// MaxBatch is how many counts a batch has at most. With ids of the greatest length it takes 2 MB.
	MaxBatch = 10_000
	// ResendAfter is how long a batch waits for its answer before it is due again.
	ResendAfter = 10 * time.Second
	// ConfirmAfter is how long a batch is held after its first acknowledgement. It is dropped at the first
	// later answer that still covers it. A failover of Redis may lose what was counted in this time.
	ConfirmAfter = 30 * time.Second
	// askAfter is the time between two questions about batches that are only held.
	askAfter = 10 * time.Second
	// askQuietAfter is the time between two questions about a partition without anything to send. An answer
	// that counts less than was acknowledged shows that Redis has lost it.
	askQuietAfter = time.Minute
	// refusedAfter is when a batch is due again that an answer did not cover.
	refusedAfter = time.Second
)

// Batch is a numbered part of the counts of one partition's apps. It must not be changed.
type Batch struct {
	Partition int
	// Number numbers the batches of a partition from 1, without a gap.
	Number uint64
	// Counts is empty in a question. An answer to it says how far the partition's batches were counted.
	Counts []Count
	// Oldest says that all earlier batches of the partition were dropped from the outbox; in a question, the
	// batch with this number too. They were acknowledged.
	Oldest bool
}

// Outbox holds counts on their way to an authority. It makes numbered batches of them, holds a batch until it
// was acknowledged and confirmed, and says which batch is due. One batch of each partition is on its way at a
// time, so that the batches of a partition are counted in order. It reads no clock. An Outbox is not safe for
// concurrent use.
//
// Once a batch was sent, it keeps its number and its counts. So an authority that gets the batch twice
// recognises it by its number. Counts that are in no batch yet are added up.
type Outbox struct {
	partitionOf func(appID string) int
	lanes       []lane
	counts      int       // in waiting and held of all lanes
	spare       int       // of them, in acknowledged batches
	taken       time.Time // every decision before it was put, or dropped by the counter
	next        int       // the lane that is looked at first
}

// lane is the part of an outbox for one partition.
type lane struct {
	waiting []Count
	merged  int       // the length of waiting after its counts were added up last
	since   time.Time // every decision before it is not in waiting
	held    []heldBatch
	last    uint64 // the number of the latest batch

	sent   time.Time // when the batch or the question that waits for its answer was sent; zero for none
	flying uint64    // its number
	heard  time.Time // when the latest answer arrived
}

type heldBatch struct {
	number       uint64
	counts       []Count
	since        time.Time // as in lane
	acknowledged time.Time // zero while it is not
}

func (b *heldBatch) open() bool { return b.acknowledged.IsZero() }

// NewOutbox returns an empty outbox. partitionOf returns a number below partitions.
func NewOutbox(partitions int, partitionOf func(appID string) int) *Outbox {
	return &Outbox{partitionOf: partitionOf, lanes: make([]lane, partitions)}
}

// Room returns how many counts may be put. Acknowledged batches give way to them.
func (o *Outbox) Room() int { return max(MaxEntries-(o.counts-o.spare), 0) }

// Put adds counts, at most Room. With all, they are every count that was made before a time.
func (o *Outbox) Put(counts []Count, all bool, before time.Time) {
	for _, c := range counts {
		l := &o.lanes[o.partitionOf(c.AppID)]
		if len(l.waiting) == 0 {
			l.since = o.taken
		}
		l.waiting = append(l.waiting, c)
		o.counts++
		if len(l.waiting) > 2*max(l.merged, MaxBatch/8) {
			o.counts -= len(l.waiting)
			l.waiting = Merge(l.waiting)
			l.merged = len(l.waiting)
			o.counts += l.merged
		}
	}
	if all && before.After(o.taken) {
		o.taken = before
	}
	for i := range o.lanes {
		for l := &o.lanes[i]; o.counts > MaxEntries && len(l.held) > 0 && !l.held[0].open(); {
			o.drop(l)
		}
	}
}

// drop drops the first held batch of a lane, which was acknowledged.
func (o *Outbox) drop(l *lane) {
	n := len(l.held[0].counts)
	o.counts, o.spare = o.counts-n, o.spare-n
	l.held = slices.Delete(l.held, 0, 1)
}

// Next returns a batch that is due, and counts it as sent. It returns false when none is.
func (o *Outbox) Next(now time.Time) (Batch, bool) {
	for range o.lanes {
		partition := o.next
		o.next = (o.next + 1) % len(o.lanes)
		l := &o.lanes[partition]
		if !l.due(now) {
			continue
		}
		b := l.pick()
		l.sent, l.flying = now, b.Number
		b.Partition = partition
		return b, true
	}
	return Batch{}, false
}

// Due returns for how many partitions a batch is due.
func (o *Outbox) Due(now time.Time) (due int) {
	for i := range o.lanes {
		if o.lanes[i].due(now) {
			due++
		}
	}
	return due
}

func (l *lane) due(now time.Time) bool {
	switch {
	case !l.sent.IsZero() && now.Sub(l.sent) < ResendAfter:
		return false
	case len(l.waiting) > 0:
		return true
	case len(l.held) == 0:
		return l.last > 0 && now.Sub(l.heard) >= askQuietAfter
	}
	return l.held[len(l.held)-1].open() || now.Sub(l.heard) >= askAfter
}

// pick returns the first batch that was not acknowledged, a new one, or a question, in this order.
func (l *lane) pick() Batch {
	for i := range l.held {
		if b := &l.held[i]; b.open() {
			return Batch{Number: b.number, Counts: b.counts, Oldest: i == 0}
		}
	}
	if len(l.waiting) == 0 {
		return Batch{Number: l.last, Oldest: len(l.held) == 0}
	}
	n := min(len(l.waiting), MaxBatch)
	b := heldBatch{number: l.last + 1, counts: l.waiting[:n:n], since: l.since}
	l.last, l.waiting, l.merged = b.number, l.waiting[n:], 0
	if len(l.waiting) == 0 {
		l.waiting = nil
	}
	l.held = append(l.held, b)
	return Batch{Number: b.number, Counts: b.counts, Oldest: len(l.held) == 1}
}

// Acknowledge notes an answer: the batches of a partition up to a number were counted, and no later ones. It
// ignores what cannot be true.
func (o *Outbox) Acknowledge(partition int, number uint64, now time.Time) {
	if partition < 0 || partition >= len(o.lanes) || number > o.lanes[partition].last {
		return
	}
	l := &o.lanes[partition]
	l.heard = now
	if number >= l.flying {
		l.sent = time.Time{}
	} else if !l.sent.IsZero() {
		// The authority lacks an earlier batch. The pause bounds what an authority that never counts costs.
		l.sent = now.Add(refusedAfter - ResendAfter)
	}
	for i := range l.held {
		switch b := &l.held[i]; {
		case b.number > number && !b.open():
			b.acknowledged = time.Time{} // what was counted is lost, so the batch is sent again
			o.spare -= len(b.counts)
		case b.number <= number && b.open():
			b.acknowledged = now
			o.spare += len(b.counts)
		}
	}
	for len(l.held) > 0 && !l.held[0].open() && now.Sub(l.held[0].acknowledged) >= ConfirmAfter {
		o.drop(l)
	}
}

// Reconnected makes everything due that waits for an answer, because that answer will not come.
func (o *Outbox) Reconnected() {
	for i := range o.lanes {
		o.lanes[i].sent = time.Time{}
	}
}

// CompleteUntil returns the time before which every decision is in an acknowledged batch, or was dropped by
// the counter. It is zero before the first acknowledgement. It goes back when an authority lacks a batch that
// was acknowledged.
func (o *Outbox) CompleteUntil() time.Time {
	until := o.taken
	for i := range o.lanes {
		if since, open := o.lanes[i].openSince(); open && since.Before(until) {
			until = since
		}
	}
	return until
}

// openSince returns the time before which the lane has no decision that was not acknowledged. It returns
// false when all were.
func (l *lane) openSince() (since time.Time, open bool) {
	for i := range l.held {
		if b := &l.held[i]; b.open() && (!open || b.since.Before(since)) {
			since, open = b.since, true
		}
	}
	if len(l.waiting) > 0 && (!open || l.since.Before(since)) {
		since, open = l.since, true
	}
	return since, open
}

// OutboxStats is the state of an Outbox.
type OutboxStats struct {
	// Counts is how many counts are held, those of acknowledged batches included.
	Counts int
	// Unacknowledged is how many batches were not acknowledged. Counts of a partition that are not in a batch
	// yet are one batch.
	Unacknowledged int
}

// Stats returns the state.
func (o *Outbox) Stats() OutboxStats {
	s := OutboxStats{Counts: o.counts}
	for i := range o.lanes {
		l := &o.lanes[i]
		for j := range l.held {
			if l.held[j].open() {
				s.Unacknowledged++
			}
		}
		if len(l.waiting) > 0 {
			s.Unacknowledged++
		}
	}
	return s
}
