package store

import (
	"cmp"
	"slices"

	"github.com/countersign/countersign/pkg/record"
)

// known is the part of a partition's history in the store that its head and log show.
type known struct {
	// head is nil when nothing is left of the partition. All other fields are empty then.
	head *record.Head
	// cursors are the cursors of log entries and of the entries before them, by tag. Changes has the
	// revisions of these cursors.
	cursors map[record.Tag]record.Cursor
	changes map[uint64]bool
	// links are the links in the log, by revision.
	links map[uint64]*record.Link
	// ends are the last cursors of epochs, by epoch, where the log has the start of the next epoch. Settled
	// are the tags that these starts settle.
	ends    map[uint64]record.Cursor
	settled map[record.Tag]bool
	// jumps are the starts of epochs in the log. The history has no revision between such a start and the
	// entry before it.
	jumps []record.Entry
}

// newKnown returns the history that the head alone shows.
func newKnown(head *record.Head) known {
	return known{
		head: head, cursors: map[record.Tag]record.Cursor{}, changes: map[uint64]bool{}, links: map[uint64]*record.Link{},
		ends: map[uint64]record.Cursor{}, settled: map[record.Tag]bool{},
	}
}

// learn adds an entry of the log. The entry must not be beyond the head.
func (k *known) learn(e record.Entry) {
	k.name(e.Cursor)
	if e.Previous != (record.Cursor{}) {
		k.name(e.Previous)
	}
	if e.Link != nil {
		k.links[e.Revision] = e.Link
	} else {
		k.ends[e.Previous.Epoch] = e.Previous
		k.jumps = append(k.jumps, e)
		for _, tag := range e.Settled {
			k.settled[tag] = true
		}
	}
}

func (k *known) name(c record.Cursor) { k.cursors[c.Tag], k.changes[c.Revision] = c, true }

// end returns the last cursor of an epoch in the store's history; false when the history has no such epoch.
func (k *known) end(epoch uint64) (record.Cursor, bool) {
	if epoch == k.head.Epoch {
		return k.head.Cursor, true
	}
	if i := slices.IndexFunc(k.head.Forks, func(f record.Cursor) bool { return f.Epoch == epoch }); i >= 0 {
		return k.head.Forks[i], true
	}
	end, had := k.ends[epoch]
	return end, had
}

// has reports whether a change needs no healing, because it is in the store's history or it is settled. Where
// the log was trimmed or has a hole, the head decides.
func (k *known) has(c record.Cursor) bool {
	switch {
	case k.head == nil:
		return false
	case k.cursors[c.Tag] == c, k.settled[c.Tag]:
		return true
	}
	for _, e := range k.jumps {
		if e.Previous.Revision < c.Revision && c.Revision < e.Revision {
			return false
		}
	}
	if end, had := k.end(c.Epoch); had && (c == end || c.Revision < end.Revision) {
		return c == end || !k.changes[c.Revision]
	}
	// The change is beyond the end of its epoch, and no start of an epoch in the log settles it. The start of
	// an epoch that was trimmed from the log may have settled it. To settle it again does no harm: the app
	// counts as changed by the store since, and its revocations stay in force.
	return false
}

// needs returns a revision. The log after that revision is enough to decide about a change.
func (k *known) needs(c record.Cursor) uint64 {
	after := max(c.Revision, 2) - 2
	if c.Epoch >= k.head.Epoch {
		return after
	}
	// The start of the epoch that followed the change's epoch comes after the end of that epoch, or of an
	// earlier one.
	end := uint64(0)
	for _, f := range k.head.Forks {
		if f.Epoch <= c.Epoch {
			end = f.Revision
		}
	}
	return min(after, end)
}

// shares reports whether a cursor is certainly in the store's history. Then the lost history and the store's
// have the state at the cursor in common.
func (k *known) shares(c record.Cursor) bool {
	if k.head == nil || c.Revision == 0 || k.cursors[c.Tag] == c {
		return true // every history begins with an empty partition
	}
	end, had := k.end(c.Epoch)
	return had && end == c
}

// tells reports whether the log reaches back far enough to show if a change was settled. It must reach back
// to the start of the epoch that followed the change's epoch.
func (k *known) tells(c record.Cursor) bool {
	return k.head == nil || c.Epoch >= k.head.Epoch ||
		slices.ContainsFunc(k.jumps, func(e record.Entry) bool { return e.Previous.Epoch <= c.Epoch && c.Epoch < e.Epoch })
}

// since returns the links that changed an app in the store after the cursor place. Told is false when the log
// does not reach back that far. The search stops at a change in dealt: the other history already has that
// change and everything before it.
func (k *known) since(document *record.Document, place record.Cursor, dealt map[record.Tag]bool) (links []*record.Link,
	told bool,
) {
	for at := document.Revision; at > place.Revision && !dealt[document.Tag]; {
		link := k.links[at]
		if link == nil || link.AppID != document.AppID || link.PreviousAppRevision >= at ||
			at == document.Revision && link.Cursor != document.Cursor {
			return links, false
		}
		if dealt[link.Tag] {
			break
		}
		links, at = append(links, link), link.PreviousAppRevision
	}
	slices.Reverse(links)
	return links, true
}

// recall adds supplied entries that were trimmed from the log. It starts at the newest: each added entry
// proves that the entry before it is in the history too.
func (k *known) recall(entries []record.Entry) {
	descending := slices.Clone(entries)
	slices.SortFunc(descending, func(a, b record.Entry) int { return cmp.Compare(b.Revision, a.Revision) })
	for _, e := range descending {
		if end, had := k.end(e.Epoch); k.cursors[e.Tag] == e.Cursor || had && end == e.Cursor {
			k.learn(e)
		}
	}
}
