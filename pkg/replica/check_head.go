package replica

import (
	"fmt"
	"time"

	"github.com/countersign/countersign/pkg/record"
)

// checkHead compares a head with the partition, and returns what the worker has to do. The read of the head
// was sent at the time sent, when the partition's cursor was before. A refused head leaves the last good data
// in use, and its age grows.
func (p *partition) checkHead(raw []byte, sent time.Time, before record.Cursor) todo {
	head, err := p.openHead(raw)
	p.requests.answer(sent)
	p.mu.Lock()
	defer p.mu.Unlock()
	next := p.checkHeadLocked(head, err, raw == nil, sent, before)
	if next == nothing {
		p.serve()
	}
	return next
}

func (p *partition) checkHeadLocked(head record.Head, err error, missing bool, sent time.Time, before record.Cursor) todo {
	switch cursor := p.state.cursor; {
	case err != nil:
		refused := "the head is refused: " + err.Error()
		if !missing && p.refusal != refused {
			p.r.quarantine(err)
		}
		if p.state.rows == nil {
			p.failure = fmt.Errorf("%w: %w", errHead, err) // no load is tried
		}
		p.noteRefusal(missing, refused)
		return nothing
	case head.Epoch >= p.leastCursor().Epoch && p.mustWaitLocked(head):
		if p.state.rows == nil {
			p.failure = errUnhealed // no load is tried
			p.r.logs.warn(p.log, errUnhealed.Error(), "head", head.Cursor, "patience", unhealedPatience)
			return nothing
		}
		p.noteRefusal(false, errUnhealed.Error())
		p.serve() // imported data serves meanwhile
		return nothing
	case p.state.rows == nil || p.stale != "":
		return reload
	case head.Epoch > cursor.Epoch:
		p.log.Warn("the store is in a new epoch; loading the partition", "cursor", cursor, "head", head.Cursor)
		p.stale = causeEpoch
		return reload
	case head.Epoch <= cursor.Epoch && p.fresh.reached(sent) && (head.Epoch < cursor.Epoch || p.deniedBy(head.Cursor)):
		return nothing // a late answer: a read that was sent later has already shown more
	case head.Epoch < max(cursor.Epoch, p.leastCursor().Epoch):
		p.r.stats.RefusedEpochs.Add(1)
		p.noteRefusal(true, "the store has forked: its epoch is over", "confirmed", p.leastCursor(), "head", head.Cursor)
		return nothing
	case p.deniedBy(head.Cursor):
		p.noteRefusal(true, "the store has forked: it denies changes that were confirmed", "confirmed", p.leastCursor(), "head",
			head.Cursor)
		return nothing
	case head.Revision > cursor.Revision:
		return catchUp
	case !p.past.agrees(head.Cursor) || head.Revision < before.Revision && p.past.agrees(before):
		// The head is in another history, or it is behind the cursor that the partition had when the read was
		// sent. The latter does not count if that cursor was itself taken back since.
		p.log.Info("taking back changes that the store does not have", "cursor", cursor, "head", head.Cursor)
		p.stale, p.undoing = causeUndo, true
		return reload
	case head.Cursor == cursor && p.sealed(head.State) != head.State:
		p.r.stats.DigestMismatches.Add(1)
		p.log.Error("the data does not add up to the head's digest; loading the partition", "cursor", cursor)
		p.stale = causeDigest
		return reload
	}
	// The head is in the partition's history or is its cursor. Later links came while the head was read.
	p.confirm(head.Cursor, sent)
	if p.state.damaged > 0 && sent.Sub(p.loadedAt) >= repairInterval {
		// An operator may have repaired the damaged documents.
		p.stale = causeRepair
		return reload
	}
	return nothing
}

// sealed returns the sum of the current state, sealed under the key of another sealed sum. So the two can be
// compared.
func (p *partition) sealed(under record.SealedSum) record.SealedSum {
	p.state.rekeySum(p.r.codec, p.number, under)
	return p.r.codec.SealSum(p.number, p.state.sum)
}

// leastCursor returns the least cursor that the store must have: the confirmed cursor or the fleet's floor.
func (p *partition) leastCursor() record.Cursor {
	if p.confirmed.Before(p.floor) {
		return p.floor
	}
	return p.confirmed
}

// deniedBy reports whether a head denies leastCursor: the head comes before it, or has another change at its
// revision.
func (p *partition) deniedBy(head record.Cursor) bool {
	least := p.leastCursor()
	return head.Before(least) || head.Conflicts(least)
}

// confirm records that a read, sent at the given time, has shown the store at a cursor of this history.
func (p *partition) confirm(at record.Cursor, sent time.Time) {
	if p.confirmed.Before(at) {
		p.confirmed = at
		p.progress.signal() // wakes callers that wait for another change with this revision: it is lost
	}
	if p.refusal != "" {
		p.log.Info("the store is as it should be again", "cursor", at)
		p.refusal, p.forked = "", false
		p.r.changes.signal()
	}
	p.fresh.mark(p.r.stamp(sent))
	if len(p.pending) > 0 {
		p.reviewPending()
	}
}

// noteRefusal records and logs that the store is refused. forked says that the store denies changes that were
// confirmed.
func (p *partition) noteRefusal(forked bool, what string, args ...any) {
	if p.refusal == what {
		return
	}
	p.log.Error(what+"; deciding from the last good data", args...)
	p.refusal = what
	if forked {
		p.forked = true
		p.r.stats.Forks.Add(1)
		p.r.changes.signal()
	}
}

func (p *partition) openHead(raw []byte) (record.Head, error) {
	key := record.KeysOf(p.number).Head
	if raw == nil {
		return record.Head{}, fmt.Errorf("%s is missing", key)
	}
	head, err := p.r.codec.OpenHead(p.number, raw)
	if err != nil {
		err = fmt.Errorf("%s does not verify: %w", key, err)
	}
	return head, err
}
