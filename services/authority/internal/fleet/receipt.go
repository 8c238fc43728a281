package fleet

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersign/countersign/pkg/record"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// State is the propagation state of a change at one validator. An Entry for several changes has the smallest
// of their states.
type State int

// The states; see PropagationState.
const (
	Pending State = iota
	Lost
	Skewed
	Fenced
	Applied
)

// Entry is one validator in a receipt.
type Entry struct {
	ID    string
	State State
	// Revision is the validator's revision in the partition of the change, as of the report of Reported.
	Revision uint64
	// Reported is when the report that shows the change arrived. If no report shows the change, it is when
	// the latest report arrived.
	Reported time.Time
	// Skew is how far the validator's clock is ahead of this authority's; nil when it is unknown.
	Skew *time.Duration
	// Unreadable is true when the record of this name in the hash does not verify. Nothing else is then known
	// of the validator.
	Unreadable bool
}

// Receipt lists the state of some changes at each validator.
type Receipt struct {
	// Complete is true when the fleet has at least one validator, this authority knows all validators, and
	// each of them is Fenced or Applied. Such a validator has every change, or cannot answer without it.
	Complete bool
	// Entries has one entry for each validator, sorted by ID.
	Entries []Entry
	// Committed is the commit time of the latest change; zero when it is unknown.
	Committed time.Time
}

// ErrLost means that a change is not in the store's history: a failover lost it.
var ErrLost = errors.New("fleet: the change is not in the store's past")

// stateOf returns the state of a validator that has not shown a change. silent is the time since the latest
// report of the validator. since is the least age of the change. fencedAfter is the staleness bound: the
// validator answers no scope once its data is older than fencedAfter; 0 means no bound.
//
// A validator that does not report may still follow the store. With a bound it answers only from data that
// was complete within fencedAfter. Once the change is older than that, every answer includes it.
func stateOf(silent, fencedAfter, since time.Duration) State {
	switch {
	case silent <= Lease:
		return Pending
	case fencedAfter <= 0 || fencedAfter >= Lease:
		return Lost
	case since <= fencedAfter:
		return Pending
	}
	return Fenced
}

// merge combines the receipts of several changes into one. All receipts name the same validators.
func merge(receipts []Receipt) Receipt {
	merged := receipts[0]
	entries := map[string]Entry{}
	for _, r := range receipts {
		merged.Complete = merged.Complete && r.Complete
		if r.Committed.After(merged.Committed) {
			merged.Committed = r.Committed
		}
		for _, e := range r.Entries {
			if was, has := entries[e.ID]; !has || e.State < was.State || e.State == was.State && e.Reported.After(was.Reported) {
				entries[e.ID] = e
			}
		}
	}
	merged.Entries = nil
	for _, e := range entries {
		merged.Entries = append(merged.Entries, e)
	}
	slices.SortFunc(merged.Entries, func(a, b Entry) int { return strings.Compare(a.ID, b.ID) })
	return merged
}

// Wait returns when every validator has applied some changes, or when ctx ends. positions has at least one
// position, and each is of this store.
//
// Wait does not wait for validators that are LOST at the time of the call. The receipt names them. It is not
// complete unless they have come back before Wait returns. Wait does wait for a validator whose lease expires
// during the call, since it may be restarting.
//
// When the store's history does not have one of the changes, Wait returns ErrLost together with the receipt
// as it is then.
func (r *Registry) Wait(ctx context.Context, positions []record.Position) (Receipt, error) {
	waits := make([]*wait, len(positions))
	r.mu.Lock()
	absent := r.absent()
	for i, at := range positions {
		waits[i] = &wait{
			partition: at.Partition, at: at.Cursor, since: time.Now(),
			seen: map[string]seen{}, absent: absent, done: make(chan struct{}),
		}
		r.waits[at.Partition][waits[i]] = struct{}{}
		r.check(waits[i])
	}
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, w := range waits {
			delete(r.waits[w.partition], w)
		}
	}()
	for {
		for _, w := range waits {
			select {
			case <-w.done:
			case <-ctx.Done():
			}
		}
		sure := r.confirm(ctx) == nil
		receipt, lost, final := r.receipt(waits)
		receipt.Complete = receipt.Complete && sure
		switch {
		case lost:
			r.metrics.receipts.WithLabelValues("false").Inc()
			return receipt, ErrLost
		case receipt.Complete || final && sure || ctx.Err() != nil:
			r.metrics.receipts.WithLabelValues(strconv.FormatBool(receipt.Complete)).Inc()
			return receipt, nil
		case !sure, slices.ContainsFunc(receipt.Entries, func(e Entry) bool { return e.Unreadable }):
			// The hash cannot be read now, or one of its records does not verify.
			select {
			case <-ctx.Done():
			case <-time.After(confirmPause):
			}
		}
	}
}

// confirmPause is the pause between two attempts of a wait to confirm that this authority knows every
// validator.
const confirmPause = 100 * time.Millisecond

// receipt returns the receipt of all waits at the time of the call. lost is true when the store has lost one
// of the changes. final is true when only validators that were LOST at the start of the waits block them.
// Otherwise the caller waits again for the unfinished waits.
func (r *Registry) receipt(waits []*wait) (_ Receipt, lost, final bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	receipts := make([]Receipt, len(waits))
	final = true
	for field := range r.unverified() {
		final = final && waits[0].absent[field] // all waits share one absent set
	}
	for i, w := range waits {
		w.reopen()
		r.check(w)
		lost = lost || w.lost
		final = final && w.closed
		receipts[i] = r.receiptOf(w)
	}
	return merge(receipts), lost, final
}

// receiptOf returns the receipt of one change at the time of the call. The caller holds the mutex.
func (r *Registry) receiptOf(w *wait) Receipt {
	now := time.Now()
	var receipt Receipt
	complete := !w.lost
	for _, m := range r.members {
		if m.Gone {
			continue
		}
		r.recordShown(w, m) // check stops at the first blocker, and may not have come to this member
		e := Entry{ID: m.ID, State: r.stateIn(w, m, now), Revision: m.Cursors[w.partition].Revision, Reported: m.Reported}
		if ahead, known := m.clock.skew(); known {
			e.Skew = &ahead
		}
		if shown, has := w.seen[m.ID]; has && !w.lost {
			e.Revision, e.Reported = shown.revision, shown.at
		}
		complete = complete && e.State >= Fenced
		receipt.Entries = append(receipt.Entries, e)
	}
	for _, name := range r.unverified() {
		complete = false
		receipt.Entries = append(receipt.Entries, Entry{ID: name, State: Lost, Unreadable: true})
	}
	receipt.Complete = complete && len(receipt.Entries) > 0
	if link := r.linkOf(w); link != nil {
		receipt.Committed = time.UnixMilli(link.CommitMillis)
	}
	return receipt
}

// ToProto returns the receipt as a message of the contract.
func (r Receipt) ToProto() *countersignv1.Receipt {
	states := map[State]countersignv1.PropagationState{
		Pending: countersignv1.PropagationState_PROPAGATION_STATE_PENDING,
		Lost:    countersignv1.PropagationState_PROPAGATION_STATE_LOST,
		Fenced:  countersignv1.PropagationState_PROPAGATION_STATE_FENCED,
		Applied: countersignv1.PropagationState_PROPAGATION_STATE_APPLIED,
		Skewed:  countersignv1.PropagationState_PROPAGATION_STATE_CLOCK_SKEWED,
	}
	m := &countersignv1.Receipt{Complete: r.Complete}
	if !r.Committed.IsZero() {
		m.CommitTime = timestamppb.New(r.Committed)
	}
	for _, e := range r.Entries {
		entry := &countersignv1.ReceiptEntry{
			ValidatorId: e.ID, State: states[e.State], Revision: e.Revision,
			Unreadable: e.Unreadable,
		}
		if !e.Reported.IsZero() {
			entry.ReportTime = timestamppb.New(e.Reported)
		}
		if e.Skew != nil {
			entry.ClockSkew = durationpb.New(*e.Skew)
		}
		m.Validators = append(m.Validators, entry)
	}
	return m
}
