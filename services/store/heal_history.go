package store

import (
	"cmp"
	"slices"

	"github.com/countersign/countersign/pkg/record"
)

// known is what the head and the log of a partition tell of its past.
type known struct {
	// head is nil for a partition of which nothing is left; then all else is empty.
	head *record.Head
	// cursors are those of the log's entries and of the changes that these name as the ones before, changes
	// their revisions.
	cursors map[record.Tag]record.Cursor
	changes map[uint64]bool
	// links are the log's, by revision.
	links map[uint64]*record.Link
	// ends are where the epochs ended whose successors begin in the log, settled the lost changes that
	// those deal with.
	ends    map[uint64]record.Cursor
	settled map[record.Tag]bool
	// jumps are the starts of epochs with what they were begun on: the store has no revision between the two.
	jumps []record.Entry
}

// newKnown knows what a head alone tells.
func newKnown(head *record.Head) known {
	return known{
		head: head, cursors: map[record.Tag]record.Cursor{}, changes: map[uint64]bool{}, links: map[uint64]*record.Link{},
		ends: map[uint64]record.Cursor{}, settled: map[record.Tag]bool{},
	}
}

// learn takes in an entry of the log that is not beyond the head.
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

// end returns where an epoch of the store's past ended, or the store is; false when it has no such epoch.
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

// has tells whether a change needs no healing: it is in the store's past or is dealt with, as far as can be
// told. What lies before the log, or where it has a hole, is taken for what the head says that there was.
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
	// It is past the end of its epoch, and no start of an epoch says that it was dealt with. If one did
	// that is no more in the log, it is dealt with again: what it brought is found changed since, and what
	// it revoked is revoked.
	return false
}

// needs returns the revision behind which the log has to be read to tell of a change.
func (k *known) needs(c record.Cursor) uint64 {
	after := max(c.Revision, 2) - 2
	if c.Epoch >= k.head.Epoch {
		return after
	}
	// The start of the epoch that came after its own is behind the end of that or of an earlier one.
	end := uint64(0)
	for _, f := range k.head.Forks {
		if f.Epoch <= c.Epoch {
			end = f.Revision
		}
	}
	return min(after, end)
}

// shares tells whether a place is for certain in the store's past, so that what was there is a state that
// both share.
func (k *known) shares(c record.Cursor) bool {
	if k.head == nil || c.Revision == 0 || k.cursors[c.Tag] == c {
		return true // before the first change there was nothing, in any past
	}
	end, had := k.end(c.Epoch)
	return had && end == c
}

// tells says whether the log tells if a change was settled: it goes back to the start of the epoch that
// came after the change's.
func (k *known) tells(c record.Cursor) bool {
	return k.head == nil || c.Epoch >= k.head.Epoch ||
		slices.ContainsFunc(k.jumps, func(e record.Entry) bool { return e.Previous.Epoch <= c.Epoch && c.Epoch < e.Epoch })
}

// since returns what the store has changed of an app, which has a document, since a place in its past;
// false when the log does not go back that far. It need not go back behind what another past has dealt
// with, and went on from: all that the store had then is in that past.
func (k *known) since(document *record.Document, place record.Cursor, dealt map[record.Tag]bool) (links []*record.Link, told bool) {
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

// recall takes in those entries that lead to what is known of the past: what was trimmed from the log, and
// somebody has.
func (k *known) recall(entries []record.Entry) {
	descending := slices.Clone(entries)
	slices.SortFunc(descending, func(a, b record.Entry) int { return cmp.Compare(b.Revision, a.Revision) })
	for _, e := range descending {
		if end, had := k.end(e.Epoch); k.cursors[e.Tag] == e.Cursor || had && end == e.Cursor {
			k.learn(e)
		}
	}
}
