package replica

import (
	"errors"
	"time"

	"github.com/countersign/countersign/pkg/record"
)

// observe compares a head with the partition. The head was asked for at the time sent, when the cursor was before.
// It returns what the worker has to do. Whatever is refused keeps the last good data, whose age grows.
func (p *partition) observe(raw []byte, sent time.Time, before record.Cursor) todo {
	head, err := p.openHead(raw)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.report("the head is refused: " + err.Error())
		return nothing
	}
	if p.held.rows == nil || p.stale {
		return reload
	}
	cursor := p.held.cursor
	switch {
	case head.Epoch > cursor.Epoch:
		p.log.Warn("the store is in a new epoch; loading the partition", "cursor", cursor, "head", head.Cursor)
		p.stale = true
		return reload
	case head.Epoch < cursor.Epoch:
		p.report("the store has forked: its epoch is over", "confirmed", p.confirmed, "head", head.Cursor)
		return nothing
	case head.Revision > cursor.Revision:
		return catchUp
	case !p.past.agrees(head.Cursor) || head.Revision < before.Revision && p.past.agrees(before):
		// Either another past, or less of it than was held when the question was asked. What was held then and was
		// taken back since does not count.
		return p.contradicted(head)
	}
	// The head is in the partition's past or its present, and what lies behind it came while it was read.
	if head.Cursor == cursor && p.r.codec.SealSum(p.number, p.held.sum) != head.State {
		p.log.Error("the data does not add up to the head's digest; loading the partition", "cursor", cursor)
		p.stale = true
		return reload
	}
	p.confirm(head.Cursor, sent)
	if p.held.damaged && sent.Sub(p.loadedAt) >= repairInterval {
		// Somebody may have mended the documents that could not be verified.
		p.stale = true
		return reload
	}
	return nothing
}

// contradicted is for a head of the same epoch that does not lead to the cursor: a fork when it denies what was
// confirmed, and otherwise a hint that the store took back.
func (p *partition) contradicted(head record.Head) todo {
	if head.Revision < p.confirmed.Revision || head.Revision == p.confirmed.Revision && head.Tag != p.confirmed.Tag {
		p.report("the store has forked: it denies changes that were confirmed", "confirmed", p.confirmed, "head", head.Cursor)
		return nothing
	}
	p.log.Info("taking back changes that the store does not have", "cursor", p.held.cursor, "head", head.Cursor)
	p.stale, p.undoing = true, true
	return reload
}

// confirm notes that a read which was sent at a time has shown the store at a cursor of this past.
func (p *partition) confirm(at record.Cursor, sent time.Time) {
	if at.Epoch > p.confirmed.Epoch || at.Revision > p.confirmed.Revision {
		p.confirmed = at
		p.progress.signal() // whoever waits for another change in this place waits in vain
	}
	if p.alarm != "" {
		p.log.Info("the store is as it should be again", "cursor", at)
		p.alarm = ""
	}
	p.fresh.mark(sent)
}

func (p *partition) report(what string, args ...any) {
	if p.alarm != what {
		p.log.Error(what+"; deciding from the last good data", args...)
		p.alarm = what
	}
}

func (p *partition) openHead(raw []byte) (record.Head, error) {
	if raw == nil {
		return record.Head{}, errors.New("it is missing")
	}
	return p.r.codec.OpenHead(p.number, raw)
}
