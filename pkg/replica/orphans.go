package replica

import (
	"context"
	"fmt"
	"slices"

	"github.com/countersign/countersign/pkg/record"
)

// crossing is what has to be known of the log before a partition takes another turn than the one it was on.
type crossing struct {
	// does says that the partition leaves a past for another one.
	leaves bool
	past   history
	// ends are where the epochs of the store's past ended.
	ends []record.Cursor
	// present are the tags that the log has, settled those of lost changes that are dealt with; first is
	// the lowest revision of the log, 0 when nothing lies before the log.
	present, settled map[record.Tag]bool
	first            uint64
}

// crossing reads the log from where the partition's history begins, if the load leaves any of it behind:
// the links that the store does not have are not to be forgotten.
func (p *partition) crossing(ctx context.Context, head record.Head) (crossing, error) {
	p.mu.Lock()
	from, leaves := p.past.base, p.state.rows != nil && (p.undoing || head.Epoch > p.state.cursor.Epoch)
	if !leaves && p.state.rows != nil && p.confirmed.Before(p.state.cursor) {
		// The store may have gone on without what came here as hints: its links tell.
		from, leaves = p.confirmed, true
	}
	if len(p.orphans) > 0 {
		from.Revision = min(from.Revision, p.orphans[0].Revision)
	}
	p.mu.Unlock()
	if !leaves {
		return crossing{}, nil
	}
	c := crossing{leaves: true, ends: head.Forks, first: head.Revision, present: map[record.Tag]bool{},
		settled: map[record.Tag]bool{}}
	last, err := p.readLog(ctx, max(from.Revision, 1)-1, head.Revision, func(e entry) {
		c.past.follow(e)
		c.add(e)
	})
	if err == nil {
		err = checkSameStore(head, last, c.past)
	}
	return c, err
}

// meet takes in an entry of the log.
func (c *crossing) add(e entry) {
	c.present[e.Tag], c.first = true, min(c.first, e.Revision)
	for _, tag := range e.Settled {
		c.settled[tag] = true
	}
	if e.OnNothing() {
		// The store was wiped, and the log is whole from here on. A healing settles all that it brings
		// back, so a change that it does not settle is lost, also when its revision is below this one.
		c.first = 0
	}
}

// leads fails when a log that was read up to a head, and the head that was read with the end of it, are not
// those of the store that the first head came from: a failover may come between. A store that has gone on
// since has the first head's entry in its log; one that has not need not, since the entry may be damaged.
func checkSameStore(from, to record.Head, log history) error {
	end := log.end()
	elsewhere := len(log.links) > 0 && end.Revision == from.Revision && end != from.Cursor
	switch {
	case to.Epoch != from.Epoch, to.Revision < from.Revision, to.Revision == from.Revision && to.Tag != from.Tag, elsewhere,
		to.Revision > from.Revision && end != from.Cursor:
		return fmt.Errorf("the store was at %s, and is at %s", from.Cursor, to.Cursor)
	}
	return nil
}

// follow adds an entry of the log, or begins anew with it when it does not follow.
func (h *history) follow(e entry) {
	if h.end() != e.Previous || len(h.links) == 0 {
		*h = history{base: e.Previous}
	}
	h.append(e.past())
}

// orphan keeps the links of the past that the store does not have, and drops those that are dealt with.
func (p *partition) keepOrphans(to record.Cursor, c crossing) {
	if !c.leaves {
		return
	}
	known := map[record.Tag]bool{}
	var kept []pastLink
	keep := func(link pastLink) {
		if !c.present[link.Tag] && !c.settled[link.Tag] && !known[link.Tag] {
			known[link.Tag] = true
			kept = append(kept, link)
		}
	}
	for _, link := range p.orphans {
		keep(link)
	}
	// What an epoch ended with is its past. So is, as far as anybody can tell, what lies before the log.
	ends := append(slices.Clone(c.ends), to)
	ended := func(link pastLink) bool {
		i := slices.IndexFunc(ends, func(end record.Cursor) bool { return end.Epoch == link.Epoch })
		return i >= 0 && link.Revision <= ends[i].Revision && (link.Revision < c.first || p.past.agrees(ends[i]))
	}
	for _, link := range p.past.links {
		// So is what a read of the store has confirmed in the epoch that goes on.
		if !ended(link) && !(to.Epoch == link.Epoch && link.Revision <= p.confirmed.Revision) {
			keep(link)
		}
	}
	p.orphans = kept[max(len(kept)-historyLength, 0):]
	if n := p.orphanedChanges(); n > 0 {
		p.log.Info("holding on to changes that the store does not have", "changes", n, "cursor", to)
	} else {
		p.orphans = nil // starts of epochs are there only to lead to changes
	}
}

// review looks again at the changes that are pending: what is in the past now is forgotten, and what turns
// out not to be is held on to.
func (p *partition) reviewPending() {
	p.pending = slices.DeleteFunc(p.pending, func(link pastLink) bool {
		if _, known := p.past.after(link.Cursor); known {
			return true
		}
		passed := link.Epoch < p.state.cursor.Epoch || link.Epoch == p.confirmed.Epoch && link.Revision <= p.confirmed.Revision
		if passed {
			p.log.Info("holding on to a change that the store does not have", "change", link.Cursor, "cursor", p.state.cursor)
			p.orphans = append(p.orphans, link)
			p.r.changes.signal()
		}
		return passed
	})
	p.pending = p.pending[max(len(p.pending)-historyLength, 0):]
}

// found drops a change that was held on to, since the store has it after all: whoever said otherwise was no
// more the master.
func (p *partition) dropFound(at record.Cursor) {
	is := func(link pastLink) bool { return link.Cursor == at }
	p.orphans, p.pending = slices.DeleteFunc(p.orphans, is), slices.DeleteFunc(p.pending, is)
	if p.orphanedChanges() == 0 {
		p.orphans = nil
	}
}

// lost returns how many changes are held on to that the store does not have.
func (p *partition) orphanedChanges() (n int) {
	for _, link := range p.orphans {
		if !link.start {
			n++
		}
	}
	return n
}

// fill reads as much of the log into the history as that keeps, once after a load: a failover may take back
// what was changed before this replica was started too, and a position of that time must be told from one
// that was lost.
//
// An epoch may begin far above the end of the one before, so one read may find nothing but its start. The
// next read then begins where the history does by now.
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

// unfilled returns where the history begins; false when it need not reach further back.
func (p *partition) fillFrom() (base record.Cursor, need bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.past.base, !p.filled && p.state.rows != nil
}

// precede puts what was read of the log behind a revision in front of the history. When that still begins
// behind that revision, the log has nothing more that leads to it, or the read would have found it.
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

// readLog calls each for every entry of the log behind a revision, up to and including another, that
// verifies. It returns the head that was read with the last of them, the zero head when that does not
// verify.
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

// openAll calls each for what was read, up to a revision, and returns the revision that it has come to.
func (p *partition) openAll(ctx context.Context, links []record.RawEntry, after, upTo uint64, each func(entry)) (uint64, error) {
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
