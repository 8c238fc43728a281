package store

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/countersign/countersign/pkg/record"
)

// ErrIncomplete says that the store lacks changes which somebody has seen and nobody has supplied. Its text
// is for an operator.
var ErrIncomplete = errors.New("changes were lost and cannot be brought back without a gap")

// lineage are lost entries, each made on the one before it.
type lineage struct {
	entries []record.Entry
	// fork is the place in the store's past that the lineage left. Shared says that it is in that past for
	// certain, so that the two can be merged three-way; assumed that it is there as far as the head tells,
	// since the log does not go back that far.
	fork            record.Cursor
	shared, assumed bool
	// ancestors are the entries between the fork and the lineage: of other lineages, or those that a
	// healing has dealt with. Earlier are the links among them, by app.
	ancestors map[record.Cursor]bool
	earlier   map[string][]*record.Link
	// dealt are the changes that epochs among the entries and the ancestors have dealt with, and that those
	// have, and so on.
	dealt map[record.Tag]bool
	// doubtful says that it may have been dealt with before: only what it revokes counts, unless the store
	// has not changed the app since.
	doubtful bool
}

// loss is what a partition has lost.
type loss struct {
	// past is the store's.
	past *known
	// lineages are the lost entries. The first is the one that went furthest; the others are what they have
	// beside those before them. Those that nothing connects with the store's past come last: they are of
	// earlier epochs, or a lost epoch has dealt with them.
	lineages []lineage
	stray    []lineage
	// unknown are cursors of earlier epochs that somebody has seen and nobody has supplied.
	unknown []record.Cursor
	// top is above every epoch and revision that is known of; its tag means nothing. last is where the
	// first lineage ends, or the furthest that somebody has seen.
	top, last record.Cursor
	// supplied are all entries that somebody holds, and settles what each of them settles.
	supplied map[record.Cursor]record.Entry
	settles  map[record.Tag][]record.Tag
	// healers, inTurn and sameLoss keep what healedBy, settledBy and oneChange have found.
	healers  map[record.Tag]record.Entry
	inTurn   map[record.Tag]map[record.Tag]bool
	sameLoss map[[2]record.Tag]bool
}

func newLoss(past *known) loss {
	return loss{
		past: past, supplied: map[record.Cursor]record.Entry{}, settles: map[record.Tag][]record.Tag{},
		healers: map[record.Tag]record.Entry{}, inTurn: map[record.Tag]map[record.Tag]bool{}, sameLoss: map[[2]record.Tag]bool{},
	}
}

// tags returns the tags of all that was lost.
func (l *loss) tags() (tags []record.Tag) {
	seen := map[record.Tag]bool{}
	for _, lineage := range l.all() {
		for _, e := range lineage.entries {
			if !seen[e.Tag] {
				seen[e.Tag] = true
				tags = append(tags, e.Tag)
			}
		}
	}
	return tags
}

// maxSettled bounds the tags that the start of an epoch carries: some 300 KB in the log.
const maxSettled = 16 << 10

// settling returns the tags that the epoch which heals this loss has to settle: those of all that was lost,
// and behind them what the starts of epochs among that have settled, since nobody may hold these starts any
// more when the new epoch is lost in turn. Without that, a copy of the store from before them would look
// like one that has changed by itself. Past maxSettled the oldest of these are left out.
func (l *loss) settling() []record.Tag {
	tags := l.tags()
	seen := make(map[record.Tag]bool, len(tags))
	for _, tag := range tags {
		seen[tag] = true
	}
	for i := 0; i < len(tags); i++ {
		for _, tag := range l.settles[tags[i]] {
			if !seen[tag] && len(tags) < maxSettled {
				seen[tag] = true
				tags = append(tags, tag)
			}
		}
	}
	return tags
}

// all returns the lineages and the strays.
func (l *loss) all() []lineage { return append(slices.Clone(l.lineages), l.stray...) }

// place says where each lineage left the store's past, once all are known.
func (s *searcher) place() {
	for i := range s.lineages {
		l := &s.lineages[i]
		l.ancestors, l.earlier, l.dealt = map[record.Cursor]bool{}, map[string][]*record.Link{}, map[record.Tag]bool{}
		for _, e := range l.entries {
			s.collect(l.dealt, e.Settled)
		}
		bottom := l.entries[0]
		for {
			before, supplied := s.supplied[bottom.Previous]
			if !supplied || !s.taken[before.Cursor] && !s.dealt[before.Tag] && !s.settled[before.Tag] {
				break
			}
			bottom = before
			l.ancestors[bottom.Cursor] = true
			if bottom.Link != nil {
				l.earlier[bottom.Link.AppID] = append(l.earlier[bottom.Link.AppID], bottom.Link)
			}
			s.collect(l.dealt, bottom.Settled)
		}
		for _, links := range l.earlier {
			slices.Reverse(links)
		}
		l.fork = bottom.Previous
		if bottom.OnNothing() && s.head != nil {
			l.fork = s.furthest(bottom)
		}
		l.shared = s.shares(l.fork)
		l.assumed = l.fork != (record.Cursor{}) && !s.settled[l.fork.Tag] && !s.dealt[l.fork.Tag] && s.has(l.fork)
		l.doubtful = !s.tells(l.entries[0].Cursor)
	}
	for i := range s.stray {
		l := &s.stray[i]
		l.doubtful = s.dealt[l.entries[len(l.entries)-1].Tag] || !s.tells(l.entries[0].Cursor)
	}
}

// furthest returns the last place in the store's past that an epoch has settled which was begun on nothing:
// it has brought back all that was there. It is the zero cursor when there is none.
func (s *searcher) furthest(start record.Entry) (place record.Cursor) {
	brought := s.settledBy(start)
	for _, places := range [][]record.Cursor{slices.Collect(maps.Values(s.cursors)), s.head.Forks, {s.head.Cursor}} {
		for _, c := range places {
			if brought[c.Tag] && c.Revision > place.Revision {
				place = c
			}
		}
	}
	return place
}

// search finds what was lost: of all entries, in any order, those that the store does not have. It fails
// with ErrIncomplete when a lost entry, or a cursor that somebody has seen, is not connected with the
// store's past. Only those of an earlier epoch than the store's may be missing: what they had was given up
// when it ended.
func (k *known) search(partition int, entries []record.Entry, seen []record.Cursor) (loss, error) {
	s := searcher{known: k, loss: newLoss(k), lost: map[record.Cursor]record.Entry{}, taken: map[record.Cursor]bool{}, dealt: map[record.Tag]bool{}}
	if k.head != nil {
		s.top = k.head.Cursor
	}
	if k.head != nil {
		k.recall(entries)
	}
	followed := map[record.Cursor]bool{}
	for _, e := range entries {
		s.raise(e.Cursor)
		s.supplied[e.Cursor], s.settles[e.Tag] = e, e.Settled
		if !k.has(e.Cursor) {
			s.lost[e.Cursor] = e
			followed[e.Previous] = true
		}
	}
	lost := slices.SortedFunc(maps.Values(s.lost), func(a, b record.Entry) int {
		return cmp.Or(b.Compare(a.Cursor), slices.Compare(a.Tag[:], b.Tag[:]))
	})
	leaves := slices.DeleteFunc(slices.Clone(lost), func(e record.Entry) bool { return followed[e.Cursor] })
	// What connects a lineage with the store's past may be that another one has dealt with it, also one of
	// an earlier epoch.
	for before := -1; before != len(leaves); {
		before = len(leaves)
		leaves = slices.DeleteFunc(leaves, func(leaf record.Entry) bool {
			entries, connected := s.trace(leaf)
			if connected {
				s.take(entries)
			}
			return connected
		})
	}
	for _, e := range leaves {
		s.follow(e)
	}
	// A lineage that ends at what another one has dealt with says nothing of what lies before that.
	for _, e := range lost {
		if !s.taken[e.Cursor] && !s.dealt[e.Tag] {
			s.follow(e)
		}
	}
	for _, c := range seen {
		s.account(c)
	}
	if k.head == nil && s.last == (record.Cursor{}) {
		s.gaps = append(s.gaps, "nobody knows what it held")
	}
	if len(s.gaps) > 0 {
		return loss{}, fmt.Errorf("%w: partition %d: %s", ErrIncomplete, partition, strings.Join(s.gaps, "; "))
	}
	s.place()
	s.top.Epoch++
	s.top.Revision++
	return s.loss, nil
}

// searcher is a search under way.
type searcher struct {
	*known
	loss
	lost  map[record.Cursor]record.Entry
	taken map[record.Cursor]bool
	// dealt are the changes that a lost epoch, which is brought back, has dealt with, and those that such a
	// change, if it is the start of an epoch itself, has dealt with.
	dealt map[record.Tag]bool
	gaps  []string
}

func (s *searcher) raise(c record.Cursor) {
	s.top.Epoch, s.top.Revision = max(s.top.Epoch, c.Epoch), max(s.top.Revision, c.Revision)
}

// accounted tells whether what a cursor stands for is known: it is the store's past, or a lost entry that
// is connected with it. Of a partition of which nothing is left, the past is that before its first change.
func (s *searcher) accounted(c record.Cursor) bool {
	if s.head == nil && c.Revision == 0 {
		return true
	}
	return s.taken[c] || s.dealt[c.Tag] || c != (record.Cursor{}) && s.has(c)
}

// trace goes from the last entry of a lineage down to the store's past, or to an epoch that was begun on
// nothing, which has all that is in it in the links behind its start. The start of an epoch in which a
// backup took the store's place is an entry as any other: what it is begun on is the end of the backup, and
// a backup has its log.
func (s *searcher) trace(leaf record.Entry) (entries []record.Entry, connected bool) {
	for e, lost := leaf, true; lost && !connected; {
		entries = append(entries, e)
		// What goes back to the first change of all is whole as well, though the store may have been begun
		// anew since.
		connected = s.accounted(e.Previous) || e.OnNothing() ||
			s.head != nil && e.Previous.Revision == 0 && leaf.Epoch >= s.head.Epoch
		e, lost = s.lost[e.Previous]
	}
	slices.Reverse(entries)
	return entries, connected
}

// take takes the entries of a lineage that is connected with the store's past.
func (s *searcher) take(entries []record.Entry) {
	for _, e := range entries {
		s.taken[e.Cursor] = true
		s.deal(e.Settled)
	}
	if leaf := entries[len(entries)-1].Cursor; s.last.Before(leaf) {
		s.last = leaf
	}
	s.lineages = append(s.lineages, lineage{entries: entries})
}

// follow takes a lineage, connected or not.
func (s *searcher) follow(leaf record.Entry) {
	entries, connected := s.trace(leaf)
	switch bottom := entries[0]; {
	case connected:
		s.take(entries)
	case s.head != nil && bottom.Epoch < s.head.Epoch, s.dealt[leaf.Tag]:
		s.stray = append(s.stray, lineage{entries: entries})
	default:
		s.gap(bottom.Previous.Epoch, bottom.Previous.Revision)
	}
}

func (s *searcher) deal(tags []record.Tag) { s.collect(s.dealt, tags) }

// collect adds changes that were dealt with to a set, and those that they have dealt with, if they are
// starts of epochs.
func (l *loss) collect(dealt map[record.Tag]bool, tags []record.Tag) {
	for _, tag := range tags {
		if !dealt[tag] {
			dealt[tag] = true
			l.collect(dealt, l.settles[tag])
		}
	}
}

// account makes sure that a cursor that somebody has seen is known, or given up. The zero cursor is that of
// somebody who has seen nothing.
func (s *searcher) account(c record.Cursor) {
	switch {
	case c == record.Cursor{}:
	case s.accounted(c):
		s.raise(c)
		if len(s.lineages) == 0 {
			s.last = c
		}
	case s.head != nil && c.Epoch < s.head.Epoch:
		s.unknown = append(s.unknown, c)
	default:
		s.gap(c.Epoch, c.Revision)
	}
}

// gap notes that a change is not known, and how many before it.
func (s *searcher) gap(epoch, revision uint64) {
	from := uint64(0)
	if s.head != nil {
		if end, had := s.end(epoch); had {
			from = end.Revision
		}
	}
	for at := range s.lost {
		if at.Epoch == epoch && at.Revision < revision {
			from = max(from, at.Revision)
		}
	}
	words := fmt.Sprintf("of epoch %d, revisions %d to %d have been seen, and nobody has them", epoch, from+1, revision)
	if from >= revision {
		words = fmt.Sprintf("of epoch %d, a revision %d has been seen that is not the store's, and nobody has it", epoch, revision)
	}
	if !slices.Contains(s.gaps, words) {
		s.gaps = append(s.gaps, words)
	}
}
