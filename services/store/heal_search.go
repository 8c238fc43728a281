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

// ErrIncomplete says that a process has seen changes that the store lacks, and that no process has supplied
// them. Its text is for an operator.
var ErrIncomplete = errors.New("changes were lost and cannot be brought back without a gap")

// lineage is a chain of lost log entries. Each entry was made on the entry before it.
type lineage struct {
	entries []record.Entry
	// fork is the cursor at which the lineage left the store's history. Shared is set when fork is certainly
	// in that history. Then a three-way merge is possible. Assumed is set when nothing in the head and the
	// log contradicts that fork is in that history. The log may not reach back that far.
	fork            record.Cursor
	shared, assumed bool
	// ancestors are the supplied entries between fork and the lineage. They belong to other lineages, or they
	// are settled. Earlier are the links among them, by app, oldest first.
	ancestors map[record.Cursor]bool
	earlier   map[string][]*record.Link
	// dealt are the tags of all changes that the entries and the ancestors settle. An entry settles a change
	// directly, or it settles the start of an epoch that settled the change.
	dealt map[record.Tag]bool
	// doubtful says that an earlier epoch may have settled the lineage. If the store has changed an app
	// since, only the lineage's revocations count for that app.
	doubtful bool
}

// loss describes what a partition has lost.
type loss struct {
	// past is the store's history.
	past *known
	// lineages are the lost entries. The first lineage reaches furthest. Each other one has only the entries
	// that the lineages before it lack. Strays are lineages without a connection to the store's history: they
	// belong to earlier epochs, or a lost epoch has settled them.
	lineages []lineage
	stray    []lineage
	// unknown are cursors of earlier epochs that a process has seen, that the store lacks, and that no
	// process has supplied.
	unknown []record.Cursor
	// top is above every known epoch and revision. Its tag is unused. Last is the furthest end of a lineage.
	// Without lineages it is a cursor that a process has seen.
	top, last record.Cursor
	// supplied are all supplied entries, by cursor. Settles are the tags that each of them settles, by the
	// tag of the entry.
	supplied map[record.Cursor]record.Entry
	settles  map[record.Tag][]record.Tag
	// healers, inTurn and sameLoss are caches of healedBy, settledBy and oneChange.
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

// tags returns the tags of all lost entries.
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

// maxSettled bounds the tags in the start of an epoch: about 300 KB in the log.
const maxSettled = 16 << 10

// settling returns the tags that the epoch which heals this loss must settle. These are the tags of all lost
// entries, then the tags that lost starts of epochs have settled. The new epoch may be lost too, at a time
// when no process holds these starts. Without their tags, an older copy of the store would then look like a
// history with changes of its own. Once there are maxSettled tags, settling adds no tags of such starts.
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

// all returns the lineages, then the strays.
func (l *loss) all() []lineage { return append(slices.Clone(l.lineages), l.stray...) }

// place finds the cursor at which each lineage left the store's history. It needs all lineages.
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

// furthest returns the last cursor of the store's history that an epoch settles, or the zero cursor. Start is
// the start of that epoch, which began on an empty partition. So the epoch has brought back everything up to
// the cursor.
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

// search finds the lost entries among all supplied ones, in any order. It fails with ErrIncomplete when a
// lost entry, or a cursor in seen, has no connection to the store's history. Only entries of earlier epochs
// may be missing: they were given up when their epoch ended.
func (k *known) search(partition int, entries []record.Entry, seen []record.Cursor) (loss, error) {
	s := searcher{
		known: k, loss: newLoss(k), lost: map[record.Cursor]record.Entry{}, taken: map[record.Cursor]bool{},
		dealt: map[record.Tag]bool{},
	}
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
	// A lineage may connect to the store's history only through another lineage that settles its root. That
	// lineage may even be of an earlier epoch. So repeat until no more lineages connect.
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
	// A trace stops above a settled entry. Lost entries before the settled one may be in no lineage yet.
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

// searcher is a search in progress.
type searcher struct {
	*known
	loss
	lost  map[record.Cursor]record.Entry
	taken map[record.Cursor]bool
	// dealt are the tags of all changes that taken entries settle, as in lineage.dealt.
	dealt map[record.Tag]bool
	gaps  []string
}

func (s *searcher) raise(c record.Cursor) {
	s.top.Epoch, s.top.Revision = max(s.top.Epoch, c.Epoch), max(s.top.Revision, c.Revision)
}

// accounted reports whether a cursor is known. It is in the store's history, or it is a lost entry that
// connects to that history, or such an entry settles it. When nothing is left of the partition, its history
// is the empty partition.
func (s *searcher) accounted(c record.Cursor) bool {
	if s.head == nil && c.Revision == 0 {
		return true
	}
	return s.taken[c] || s.dealt[c.Tag] || c != (record.Cursor{}) && s.has(c)
}

// trace follows a lineage from its last entry back to the store's history, or to an epoch that began on an
// empty partition. Such an epoch has all its data in the links after its start. The start of a restored epoch
// is an ordinary entry: it continues the end of the backup, and the backup includes the log.
func (s *searcher) trace(leaf record.Entry) (entries []record.Entry, connected bool) {
	for e, lost := leaf, true; lost && !connected; {
		entries = append(entries, e)
		// A lineage that goes back to the first change of a partition is complete too, even if the store was
		// initialised again since.
		connected = s.accounted(e.Previous) || e.OnNothing() ||
			s.head != nil && e.Previous.Revision == 0 && leaf.Epoch >= s.head.Epoch
		e, lost = s.lost[e.Previous]
	}
	slices.Reverse(entries)
	return entries, connected
}

// take adds a lineage that connects to the store's history.
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

// follow adds the lineage that ends at leaf. Without a connection to the store's history, the lineage is a
// stray when it belongs to an earlier epoch or is settled. Otherwise follow notes a gap: an entry is missing.
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

// collect adds settled tags to a set. For the tag of an epoch's start, it also adds the tags that this start
// settles.
func (l *loss) collect(dealt map[record.Tag]bool, tags []record.Tag) {
	for _, tag := range tags {
		if !dealt[tag] {
			dealt[tag] = true
			l.collect(dealt, l.settles[tag])
		}
	}
}

// account checks a cursor that a process has seen. An unknown cursor of an earlier epoch was given up; any
// other unknown cursor is a gap. A process that has seen nothing reports the zero cursor.
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

// gap notes that a change was seen and not supplied, and from which revision on changes are missing.
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
