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

// State is what a validator has done with a change. Of several changes the smallest counts.
type State int

// The states; see PropagationState.
const (
	Pending State = iota
	Lost
	Skewed
	Fenced
	Applied
)

// Entry is one validator's part of a receipt.
type Entry struct {
	ID       string
	State    State
	Revision uint64
	// Reported is when the report that shows the change arrived; when the state is not Applied, the latest
	// of any kind.
	Reported time.Time
	// Skew is how far its time of day is ahead; nil when that is not known.
	Skew *time.Duration
	// Unreadable says that all that is known is a record of this name that does not verify.
	Unreadable bool
}

// Receipt says which validators have applied some changes.
type Receipt struct {
	// Complete says that there are validators, that each has every change or cannot answer without, and
	// that there are no others.
	Complete bool
	// Entries are by name.
	Entries []Entry
	// Committed is when the last of the changes was made; zero when it is not known any more.
	Committed time.Time
}

// ErrLost says that a change is not in the store's past: a failover lost it.
var ErrLost = errors.New("fleet: the change is not in the store's past")

// stateOf judges a validator that has not shown a change. The validator was silent for a time, answers for
// no scope from data older than fencedAfter (0: there is no such age), and the change is made since a time,
// or longer.
//
// One that does not report may well follow the store, and then answers only from data that was complete
// within fencedAfter: once the change is older than that, every answer takes it into account.
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

// merge makes one receipt of those of several changes, all of the same validators.
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

// Wait returns when every validator has applied some changes, or when ctx ends. Validators that are LOST at
// the call are not waited for: the receipt names them, and is not complete, unless one of them has come
// back in the meantime. One whose lease ends later is waited for, since it may be restarted. Wait returns
// ErrLost, with the receipt as it stands, when one of the changes is not in the store's past. There is at
// least one position, each of this store.
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
		receipt, lost, settled := r.receipt(waits)
		receipt.Complete = receipt.Complete && sure
		switch {
		case lost:
			r.metrics.receipts.WithLabelValues("false").Inc()
			return receipt, ErrLost
		case receipt.Complete || settled && sure || ctx.Err() != nil:
			r.metrics.receipts.WithLabelValues(strconv.FormatBool(receipt.Complete)).Inc()
			return receipt, nil
		case !sure, slices.ContainsFunc(receipt.Entries, func(e Entry) bool { return e.Unreadable }):
			// The others cannot be asked now, or there is a record that nobody can read.
			select {
			case <-ctx.Done():
			case <-time.After(confirmPause):
			}
		}
	}
}

// confirmPause is the pause between two tries to make sure that no validator is missing.
const confirmPause = 100 * time.Millisecond

// receipt says what the validators have done now. It is settled when nobody is missing but those that were
// LOST when the waits began; otherwise the waits that are not done are to be waited for again.
func (r *Registry) receipt(waits []*wait) (_ Receipt, lost, settled bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	receipts := make([]Receipt, len(waits))
	settled = true
	for field := range r.strangers() {
		settled = settled && waits[0].absent[field] // all began at once
	}
	for i, w := range waits {
		w.again()
		r.check(w)
		lost = lost || w.lost
		settled = settled && w.closed
		receipts[i] = r.receiptOf(w)
	}
	return merge(receipts), lost, settled
}

// receiptOf says what the validators have done with one change. The caller holds the mutex.
func (r *Registry) receiptOf(w *wait) Receipt {
	now := time.Now()
	var receipt Receipt
	complete := !w.lost
	for _, m := range r.members {
		if m.Gone {
			continue
		}
		r.look(w, m) // check ends at the first that is missing
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
	for _, name := range r.strangers() {
		complete = false
		receipt.Entries = append(receipt.Entries, Entry{ID: name, State: Lost, Unreadable: true})
	}
	receipt.Complete = complete && len(receipt.Entries) > 0
	if link := r.linkOf(w); link != nil {
		receipt.Committed = time.UnixMilli(link.CommitMillis)
	}
	return receipt
}

// ToProto returns the receipt as it is answered.
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
		entry := &countersignv1.ReceiptEntry{ValidatorId: e.ID, State: states[e.State], Revision: e.Revision, Unreadable: e.Unreadable}
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
