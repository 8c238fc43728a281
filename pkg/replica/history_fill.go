package replica

import (
	"context"

	"github.com/countersign/countersign/pkg/record"
)

// fill extends the history back by older entries of the log, up to historyLength entries, once after a load.
// A failover may lose changes from before this replica started. Reach must then report their positions as
// lost.
//
// An epoch may begin far above the end of the earlier one, so one read may find nothing but its start. The
// next read then begins at the new base of the history.
func (p *partition) fill(ctx context.Context) error {
	for base, need := p.fillFrom(); need; base, need = p.fillFrom() {
		after := base.Revision - min(base.Revision, historyLength)
		var older history
		if base.Revision > 0 {
			if _, err := p.readLog(ctx, after, base.Revision, older.follow); err != nil {
				return err
			}
		}
		p.precede(older, after)
	}
	return nil
}

// fillFrom returns the base of the history; false when it need not reach further back.
func (p *partition) fillFrom() (base record.Cursor, need bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.past.base, !p.filled && p.state.rows != nil
}

// precede prepends older, the entries of the log after a revision, to the history. If the base is still above
// that revision afterwards, the log has no more entries that lead to the history.
func (p *partition) precede(older history, after uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.past.precede(older)
	base := p.past.base.Revision
	p.filled = base == 0 || base > after || len(p.past.links) >= historyLength
}

// entry is a verified entry of the log, with its bytes.
type entry struct {
	record.Entry
	raw []byte
}

// past returns the entry as a history keeps it.
func (e *entry) past() pastLink { return pastLink{Cursor: e.Cursor, raw: e.raw, start: e.Link == nil} }

// readLog calls each for every verified entry of the log from after (excluded) up to upTo (included). It
// returns the head that was read with the last entries; the zero head when that does not verify.
func (p *partition) readLog(ctx context.Context, after, upTo uint64, each func(entry)) (record.Head, error) {
	for {
		raw, links, err := p.tail(ctx, after)
		if err != nil {
			return record.Head{}, err
		}
		head, _ := p.openHead(raw)
		if after, err = p.openAll(ctx, links, after, upTo, each); err != nil {
			return record.Head{}, err
		}
		if after > upTo {
			return head, nil
		}
		if len(links) == 0 || after == upTo {
			return head, nil
		}
	}
}

// openAll calls each for every entry that verifies, up to revision upTo. It returns the revision of the last
// entry that it has read.
func (p *partition) openAll(ctx context.Context, links []record.RawEntry, after, upTo uint64, each func(entry)) (uint64,
	error,
) {
	work, release, err := p.acquireForLinks(ctx, links)
	if err != nil {
		return after, err
	}
	defer release()
	for _, raw := range links {
		work.step()
		if after = raw.Revision; after > upTo {
			break
		}
		if e, err := p.openEntry(raw); err == nil {
			each(e)
		}
	}
	return after, nil
}

func (p *partition) openEntry(raw record.RawEntry) (entry, error) {
	opened, err := p.r.codec.OpenEntry(p.number, raw)
	return entry{opened, raw.Data}, err
}
