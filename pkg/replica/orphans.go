package replica

import (
	"context"
	"fmt"
	"slices"

	"github.com/countersign/countersign/pkg/record"
)

// crossing is what a partition reads from the store's log before it replaces its own history by another one.
type crossing struct {
	// leaves says that the partition replaces its history. past is the store's history.
	leaves bool
	past   history
	// ends are the last cursors of the epochs in the store's past.
	ends []record.Cursor
	// present are the tags in the log, settled the tags of lost changes that an epoch settles. first is the
	// lowest revision in the log. It is 0 when the store has no change from before its log.
	present, settled map[record.Tag]bool
	first            uint64
}

// crossing reads the log from the base of the partition's history, if the load may drop a part of that
// history. The result shows which links the store lacks. They must be kept as orphans.
func (p *partition) crossing(ctx context.Context, head record.Head) (crossing, error) {
	p.mu.Lock()
	from, leaves := p.past.base, p.state.rows != nil && (p.undoing || head.Epoch > p.state.cursor.Epoch)
	if !leaves && p.state.rows != nil && p.confirmed.Before(p.state.cursor) {
		// The store may have continued without changes that came here as hints. Its log shows that.
		from, leaves = p.confirmed, true
	}
	if len(p.orphans) > 0 {
		from.Revision = min(from.Revision, p.orphans[0].Revision)
	}
	p.mu.Unlock()
	if !leaves {
		return crossing{}, nil
	}
	c := crossing{
		leaves: true, ends: head.Forks, first: head.Revision, present: map[record.Tag]bool{},
		settled: map[record.Tag]bool{},
	}
	last, err := p.readLog(ctx, max(from.Revision, 1)-1, head.Revision, func(e entry) {
		c.past.follow(e)
		c.add(e)
	})
	if err == nil {
		err = checkSameStore(head, last, c.past)
	}
	return c, err
}

// add records an entry of the log.
func (c *crossing) add(e entry) {
	c.present[e.Tag], c.first = true, min(c.first, e.Revision)
	for _, tag := range e.Settled {
		c.settled[tag] = true
	}
	if e.OnNothing() {
		// The store was wiped, and its log is complete from here on. A healing settles everything that it
		// brings back. So a change that it does not settle is lost, even with a revision below this one.
		c.first = 0
	}
}

// checkSameStore fails when a failover happened between two reads. From is the head that was read before the
// log. To is the head that was read with the end of the log. If the store has newer changes than from, its
// log must have the entry of from. Otherwise that entry may be missing, because it may be damaged.
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

// follow adds an entry of the log. It begins a new history when the entry does not continue this one.
func (h *history) follow(e entry) {
	if h.end() != e.Previous || len(h.links) == 0 {
		*h = history{base: e.Previous}
	}
	h.append(e.past())
}

// keepOrphans keeps the links that the store lacks as orphans, and drops settled orphans. The caller holds
// the mutex.
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
	// A link is in the store's history when it is not after the end of its epoch and that end is in this
	// history. A link from before the log cannot be checked. It counts as in the store's history if it is not
	// after the end of its epoch.
	ends := append(slices.Clone(c.ends), to)
	ended := func(link pastLink) bool {
		i := slices.IndexFunc(ends, func(end record.Cursor) bool { return end.Epoch == link.Epoch })
		return i >= 0 && link.Revision <= ends[i].Revision && (link.Revision < c.first || p.past.agrees(ends[i]))
	}
	for _, link := range p.past.links {
		// A link that a read confirmed in the current epoch is in the store, too.
		if !ended(link) && !(to.Epoch == link.Epoch && link.Revision <= p.confirmed.Revision) {
			keep(link)
		}
	}
	p.orphans = kept[max(len(kept)-historyLength, 0):]
	if n := p.orphanedChanges(); n > 0 {
		p.log.Info("keeping changes that the store has lost", "changes", n, "cursor", to)
	} else {
		p.orphans = nil // epoch starts are kept only to lead to changes
	}
}

// reviewPending forgets pending changes that are in the history, and makes orphans of changes that turn out
// to be lost. The caller holds the mutex.
func (p *partition) reviewPending() {
	p.pending = slices.DeleteFunc(p.pending, func(link pastLink) bool {
		if _, known := p.past.after(link.Cursor); known {
			return true
		}
		passed := link.Epoch < p.state.cursor.Epoch || link.Epoch == p.confirmed.Epoch && link.Revision <= p.confirmed.Revision
		if passed {
			p.log.Info("keeping a change that the store has lost", "change", link.Cursor, "cursor", p.state.cursor)
			p.orphans = append(p.orphans, link)
			p.r.changes.signal()
		}
		return passed
	})
	p.pending = p.pending[max(len(p.pending)-historyLength, 0):]
}

// dropFound drops an orphan or pending change that the store has after all. A deposed master answered the
// earlier read.
func (p *partition) dropFound(at record.Cursor) {
	is := func(link pastLink) bool { return link.Cursor == at }
	p.orphans, p.pending = slices.DeleteFunc(p.orphans, is), slices.DeleteFunc(p.pending, is)
	if p.orphanedChanges() == 0 {
		p.orphans = nil
	}
}

// orphanedChanges returns how many orphans are changes, not epoch starts.
func (p *partition) orphanedChanges() (n int) {
	for _, link := range p.orphans {
		if !link.start {
			n++
		}
	}
	return n
}
