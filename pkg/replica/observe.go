package replica

import (
	"fmt"
	"time"

	"github.com/countersign/countersign/pkg/record"
)

// observe compares a head with the partition. The head was asked for at the time sent, when the cursor was
// before. It returns what the worker has to do. Whatever is refused keeps the last good data, whose age
// grows.
func (p *partition) observe(raw []byte, sent time.Time, before record.Cursor) todo {
	head, err := p.openHead(raw)
	p.asks.answer(sent)
	p.mu.Lock()
	defer p.mu.Unlock()
	next := p.compare(head, err, raw == nil, sent, before)
	if next == nothing {
		p.settle()
	}
	return next
}

func (p *partition) compare(head record.Head, err error, missing bool, sent time.Time, before record.Cursor) todo {
	switch cursor := p.held.cursor; {
	case err != nil:
		refused := "the head is refused: " + err.Error()
		if !missing && p.alarm != refused {
			p.r.quarantine(err)
		}
		if p.held.rows == nil {
			p.trouble = fmt.Errorf("%w: %w", errHead, err) // no load is tried
		}
		p.report(missing, refused)
		return nothing
	case head.Epoch >= p.least().Epoch && p.waits(head):
		if p.held.rows == nil {
			p.trouble = errUnhealed // no load is tried
			p.r.say.warn(p.log, errUnhealed.Error(), "head", head.Cursor, "patience", unhealedPatience)
			return nothing
		}
		p.report(false, errUnhealed.Error())
		p.settle() // what it was given decides meanwhile
		return nothing
	case p.held.rows == nil || p.stale != "":
		return reload
	case head.Epoch > cursor.Epoch:
		p.log.Warn("the store is in a new epoch; loading the partition", "cursor", cursor, "head", head.Cursor)
		p.stale = causeEpoch
		return reload
	case head.Epoch <= cursor.Epoch && p.fresh.reached(sent) && (head.Epoch < cursor.Epoch || p.denied(head.Cursor)):
		return nothing // it was asked for before the read that has shown more, and was slow on its way
	case head.Epoch < max(cursor.Epoch, p.least().Epoch):
		p.r.stats.RefusedEpochs.Add(1)
		p.report(true, "the store has forked: its epoch is over", "confirmed", p.least(), "head", head.Cursor)
		return nothing
	case p.denied(head.Cursor):
		p.report(true, "the store has forked: it denies changes that were confirmed", "confirmed", p.least(), "head", head.Cursor)
		return nothing
	case head.Revision > cursor.Revision:
		return catchUp
	case !p.past.agrees(head.Cursor) || head.Revision < before.Revision && p.past.agrees(before):
		// Either another past, or less of it than was held when the question was asked. What was held then
		// and was taken back since does not count.
		p.log.Info("taking back changes that the store does not have", "cursor", cursor, "head", head.Cursor)
		p.stale, p.undoing = causeUndo, true
		return reload
	case head.Cursor == cursor && p.sealed(head.State) != head.State:
		p.r.stats.DigestMismatches.Add(1)
		p.log.Error("the data does not add up to the head's digest; loading the partition", "cursor", cursor)
		p.stale = causeDigest
		return reload
	}
	// The head is in the partition's past or its present, and what lies behind it came while it was read.
	p.confirm(head.Cursor, sent)
	if p.held.damaged > 0 && sent.Sub(p.loadedAt) >= repairInterval {
		// Somebody may have mended the documents that could not be verified.
		p.stale = causeRepair
		return reload
	}
	return nothing
}

// sealed returns the sum of what is held, as a head carries it that was sealed with some key.
func (p *partition) sealed(under record.SealedSum) record.SealedSum {
	p.held.sumUnder(p.r.codec, p.number, under)
	return p.r.codec.SealSum(p.number, p.held.sum)
}

// least returns how far the store must be at least: what a read has shown here, or the fleet has told.
func (p *partition) least() record.Cursor {
	if p.confirmed.Before(p.floor) {
		return p.floor
	}
	return p.confirmed
}

// denied tells whether a head does not have what was confirmed: it ends before, or with another change in
// its place.
func (p *partition) denied(head record.Cursor) bool {
	least := p.least()
	return head.Before(least) || head.Epoch == least.Epoch && head.Revision == least.Revision && head.Tag != least.Tag
}

// confirm notes that a read which was sent at a time has shown the store at a cursor of this past.
func (p *partition) confirm(at record.Cursor, sent time.Time) {
	if p.confirmed.Before(at) {
		p.confirmed = at
		p.progress.signal() // whoever waits for another change in this place waits in vain
	}
	if p.alarm != "" {
		p.log.Info("the store is as it should be again", "cursor", at)
		p.alarm, p.forked = "", false
		p.r.changes.signal()
	}
	p.fresh.mark(p.r.stamp(sent))
	if len(p.pending) > 0 {
		p.review()
	}
}

// report notes that the store is refused; forked says that it denies what was confirmed.
func (p *partition) report(forked bool, what string, args ...any) {
	if p.alarm == what {
		return
	}
	p.log.Error(what+"; deciding from the last good data", args...)
	p.alarm = what
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
