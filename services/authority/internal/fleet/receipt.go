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

// State is what a validator has done with a change. For several changes the smallest state counts.
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
	ID       string
	State    State
	Revision uint64
	// Reported is the arrival of the report that shows the change. While State is not Applied, it is the
	// arrival of the latest report of any kind.
	Reported time.Time
	// Skew is how far the validator's clock is ahead; nil when it is unknown.
	Skew *time.Duration
	// Unreadable says that the record of this name does not verify, and nothing else is known of the
	// validator.
	Unreadable bool
}

// Receipt says which validators have applied some changes.
type Receipt struct {
	// Complete says that the fleet has validators, that all of them are known, and that each one has every
	// change or cannot answer without it.
	Complete bool
	// Entries are sorted by name.
	Entries []Entry
	// Committed is when the last of the changes was made; zero when it is unknown.
	Committed time.Time
}

// ErrLost says that a change is not in the store's history: a failover lost it.
var ErrLost = errors.New("fleet: the change is not in the store's past")

// stateOf judges a validator that has not shown a change. The validator was silent for a time, and the change
// is at least since old. The validator fails every scope once its data is older than fencedAfter; 0 means no
// such bound.
//
// A validator that does not report may still follow the store. Then it answers only from data that was
// complete within fencedAfter. Once the change is older than that, every answer includes it.
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

// merge makes one receipt of the receipts of several changes. All receipts name the same validators.
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

// Wait returns when every validator has applied some changes, or when ctx ends. There is at least one
// position, and each is of this store.
//
// Wait does not wait for validators that are LOST at the call. The receipt names them and is not complete,
// unless they have come back meanwhile. Wait does wait for a validator whose lease ends later, since it may
// be restarting.
//
// When one of the changes is not in the store's history, Wait returns ErrLost with the receipt so far.
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

// confirmPause is the pause between two tries to make sure that every validator is known.
const confirmPause = 100 * time.Millisecond

// receipt returns what the validators have done by now. It is final when the only validators that block it
// were LOST when the waits began. Otherwise the caller waits again for the waits that are not done.
func (r *Registry) receipt(waits []*wait) (_ Receipt, lost, final bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	receipts := make([]Receipt, len(waits))
	final = true
	for field := range r.unverified() {
		final = final && waits[0].absent[field] // all waits began together
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

// receiptOf returns what the validators have done with one change. The caller holds the mutex.
func (r *Registry) receiptOf(w *wait) Receipt {
	now := time.Now()
	var receipt Receipt
	complete := !w.lost
	for _, m := range r.members {
		if m.Gone {
			continue
		}
		r.recordShown(w, m) // check stops at the first blocker
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
