package tools

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/countersign/countersign/pkg/record"
)

// evidence is every record of a partition that verifies, from Redis and from files. A checker supplies it.
// evidence.whole returns the furthest state that it proves.
type evidence struct {
	codec     *record.Codec
	partition int
	// own are the records in Redis, files those in backups.
	own   *holdings
	files []*holdings
	// found are log entries from validators' snapshots.
	found []logEntry
}

// holdings are the verified records of one source.
type holdings struct {
	codec     *record.Codec
	head      *record.Head // nil when it is missing or does not verify
	documents map[string]*record.Document
	raw       map[string][]byte
	// claims are the documents of the partition's apps that do not verify, with the revision that each
	// claims, 0 for none.
	claims  map[string]uint64
	entries []logEntry
	// changes are the revisions of each app's changes in the audit trail. Trail is the end of that trail.
	changes map[string][]uint64
	trail   record.AuditTail
	// lastRow is the revision of the latest row. Partial says that the trail was cut, or does not begin with
	// the partition.
	lastRow uint64
	partial bool
	proof   proof
}

// logEntry is a verified entry of a log, with its bytes.
type logEntry struct {
	record.Entry
	raw record.RawEntry
}

func newHoldings(codec *record.Codec) *holdings {
	return &holdings{
		codec: codec, documents: map[string]*record.Document{}, raw: map[string][]byte{}, claims: map[string]uint64{},
		changes: map[string][]uint64{},
	}
}

var _ target = (*holdings)(nil)

// Partition implements snapshot.Sink.
func (h *holdings) Partition(int, []byte) error { return nil }

// Document implements snapshot.Sink.
func (h *holdings) Document(appID string, raw []byte) error {
	d, err := h.codec.OpenDocument(appID, raw)
	if err != nil {
		return err
	}
	h.documents[appID], h.raw[appID] = d, slices.Clone(raw)
	return nil
}

// Entry implements snapshot.Sink.
func (h *holdings) Entry(e record.RawEntry) error {
	opened, err := h.codec.OpenEntry(h.proof.partition, e)
	h.entries = append(h.entries, logEntry{opened, e})
	return err
}

// Audit implements snapshot.Sink.
func (h *holdings) Audit(sequence uint64, raw []byte) error {
	event, tail, err := h.codec.OpenAudit(h.proof.partition, h.trail, raw)
	if err != nil {
		return err
	}
	h.trail, h.lastRow = tail, event.GetRevision()
	if sequence == 1 && event.GetAppId() == "" {
		h.partial = true // a restoration from a snapshot begins the trail anew
	}
	if app := event.GetAppId(); app != "" {
		h.changes[app] = append(h.changes[app], event.GetRevision())
	}
	return nil
}

func (h *holdings) done(p proof) error {
	h.head, h.proof = p.head, p
	return nil
}

// known returns the latest revision of each app that the holdings show, up to a revision. A link also shows
// the revision before it.
func (h *holdings) known(upTo uint64) map[string]uint64 {
	latest := map[string]uint64{}
	see := func(appID string, revision uint64) {
		if revision > 0 && revision <= upTo {
			latest[appID] = max(latest[appID], revision)
		}
	}
	for appID, d := range h.documents {
		see(appID, d.Revision)
	}
	for appID, revisions := range h.changes {
		for _, revision := range revisions {
			see(appID, revision)
		}
	}
	for _, e := range h.entries {
		if e.Link != nil {
			see(e.Link.AppID, e.Link.PreviousAppRevision)
			see(e.Link.AppID, e.Revision)
		}
	}
	return latest
}

// provenState is a proven state of the partition: its apps and their revisions.
type provenState struct {
	record.Cursor
	forks []record.Cursor
	apps  map[string]uint64
	path  []logEntry // entries followed from the proven state
	// reach is the cursor up to which every change is known: it is proven, or a record of it is left.
	reach record.Cursor
	// past are the entries that lead to the end of the path, without a gap.
	past []logEntry
}

// byTrail returns the state that a complete audit trail proves: it names every app. The trail must end at an
// entry of the log.
func (h *holdings) byTrail() *provenState {
	last := slices.IndexFunc(h.entries, func(e logEntry) bool { return e.Revision == h.lastRow })
	if h.partial || h.lastRow == 0 || last < 0 {
		return nil
	}
	a := &provenState{Cursor: h.entries[last].Cursor, apps: map[string]uint64{}}
	for appID, revisions := range h.changes {
		a.apps[appID] = slices.Max(revisions)
	}
	for _, e := range h.entries[:last+1] {
		if e.Link == nil && e.Previous != (record.Cursor{}) {
			a.forks = append(a.forks, e.Previous)
		}
	}
	return a
}

// proves returns the state that the holdings prove: by the digest of their head, or without a head by their
// audit trail.
func (h *holdings) proves(partition int) *provenState {
	if h.head == nil {
		return h.byTrail()
	}
	apps := h.known(h.head.Revision)
	if h.addsUp(partition, apps) {
		return &provenState{Cursor: h.head.Cursor, forks: h.head.Forks, apps: apps}
	}
	for appID, revision := range h.claims {
		if revision > apps[appID] && revision <= h.head.Revision {
			apps[appID] = revision
		}
	}
	if h.addsUp(partition, apps) {
		return &provenState{Cursor: h.head.Cursor, forks: h.head.Forks, apps: apps}
	}
	return nil
}

// addsUp reports whether policies, by app and revision, match the digest of the head.
func (h *holdings) addsUp(partition int, apps map[string]uint64) bool {
	sum := sumOf(h.codec, partition, h.head.State.EmptySum(), apps)
	return uint64(len(apps)) == h.head.Policies && h.codec.SealSum(partition, sum) == h.head.State
}

// sumOf adds policies, by app and revision, to a sum.
func sumOf(codec *record.Codec, partition int, sum record.Sum, apps map[string]uint64) record.Sum {
	for appID, revision := range apps {
		sum = codec.Add(sum, partition, appID, revision)
	}
	return sum
}

// whole returns the furthest state that can be proven, with everything that was seen beyond it.
func (r *evidence) whole() (*provenState, error) {
	var best *provenState
	for _, h := range append([]*holdings{r.own}, r.files...) {
		a := h.proves(r.partition)
		if a == nil {
			continue
		}
		r.walk(a)
		if own := r.own.head; own != nil && !a.has(own.Cursor) {
			continue // the state does not lead to the store's head
		}
		if best == nil || best.Before(a.Cursor) {
			best = a
		}
	}
	if best == nil {
		return nil, fmt.Errorf("the records that are left do not name all apps: give --from with a backup, or restore one " +
			"(countersign store restore --replace)")
	}
	best.past = r.past(best.Cursor)
	best.reach = r.reach(best)
	r.beyond(best)
	return best, nil
}

// has reports whether a state is at a cursor, or has passed it.
func (a *provenState) has(c record.Cursor) bool {
	return a.Cursor == c || slices.ContainsFunc(a.path, func(e logEntry) bool { return e.Cursor == c || e.Previous == c })
}

// all returns every entry that was found, those in Redis first.
func (r *evidence) all() []logEntry {
	all := slices.Clone(r.own.entries)
	for _, h := range r.files {
		all = append(all, h.entries...)
	}
	return append(all, r.found...)
}

// walk follows the signed entries that continue a proven state. Where two entries continue it, the one in
// Redis counts.
func (r *evidence) walk(a *provenState) {
	next := map[record.Cursor]logEntry{}
	for _, e := range r.all() {
		if _, taken := next[e.Previous]; !taken && e.Previous != (record.Cursor{}) {
			next[e.Previous] = e
		}
	}
	for {
		e, ok := next[a.Cursor]
		if !ok || !a.Before(e.Cursor) || e.Link != nil && e.Link.PreviousAppRevision != a.apps[e.Link.AppID] {
			return
		}
		if e.Link == nil {
			a.forks = append(slices.Clone(a.forks), e.Previous)
		} else {
			a.apps[e.Link.AppID] = e.Revision
		}
		a.Cursor, a.path = e.Cursor, append(a.path, e)
	}
}

// reach returns the cursor up to which every change after a state has left a record: a document, a log entry,
// or an audit row. It has no tag when only an audit row is left of the latest change.
func (r *evidence) reach(a *provenState) record.Cursor {
	tags := map[uint64]record.Tag{}
	for _, revisions := range r.own.changes {
		for _, revision := range revisions {
			tags[revision] = record.Tag{}
		}
	}
	for _, d := range r.own.documents {
		if d.Epoch == a.Epoch {
			tags[d.Revision] = d.Tag
		}
	}
	for _, e := range r.own.entries {
		if e.Link != nil && e.Epoch == a.Epoch {
			tags[e.Revision] = e.Tag
		}
	}
	reach := a.Cursor
	for tag, known := tags[reach.Revision+1]; known; tag, known = tags[reach.Revision+1] {
		reach.Revision, reach.Tag = reach.Revision+1, tag
	}
	return reach
}

// beyond adds later signed records of apps that do not continue the state: documents, changes, and audit rows
// of lost changes. Nothing takes these back. A document of an app that the state does not have is kept too:
// it can only deny more.
func (r *evidence) beyond(a *provenState) {
	see := func(appID string, at record.Cursor) {
		a.apps[appID] = max(a.apps[appID], at.Revision)
		if at.Revision > a.Revision {
			a.Cursor = record.Cursor{Epoch: max(a.Epoch, at.Epoch), Revision: at.Revision, Tag: at.Tag}
		}
	}
	for _, appID := range slices.Sorted(maps.Keys(r.own.documents)) {
		see(appID, r.own.documents[appID].Cursor)
	}
	for _, e := range r.own.entries {
		if e.Link != nil {
			see(e.Link.AppID, e.Cursor)
		}
	}
	for appID, revisions := range r.own.changes {
		see(appID, record.Cursor{Epoch: a.Epoch, Revision: slices.Max(revisions), Tag: record.NewTag()})
	}
}

// rebuild returns an app's document at a revision, from an earlier document and the changes after it; nil
// when they do not lead there.
func (r *evidence) rebuild(a *provenState, appID string, revision uint64) *record.Document {
	var links []*record.Link
	for _, e := range append(slices.Clone(a.past), r.own.entries...) {
		if e.Link != nil && e.Link.AppID == appID {
			links = append(links, e.Link)
		}
	}
	starts := []*record.Document{nil}
	for _, h := range append([]*holdings{r.own}, r.files...) {
		if d := h.documents[appID]; d != nil && d.Revision <= revision {
			starts = append(starts, d)
		}
	}
	slices.SortStableFunc(starts, func(a, b *record.Document) int { return cmp.Compare(revisionOf(b), revisionOf(a)) })
	for _, d := range starts {
		for d == nil || d.Revision < revision {
			i := slices.IndexFunc(links, func(l *record.Link) bool {
				return l.PreviousAppRevision == revisionOf(d) &&
					l.Revision <= revision
			})
			if i < 0 {
				break
			}
			d = links[i].ApplyTo(d)
		}
		if revisionOf(d) != revision {
			continue
		}
		if i := slices.IndexFunc(links, func(l *record.Link) bool { return l.Revision == revision }); i >= 0 &&
			links[i].Cursor != d.Cursor {
			continue // the document is of another change with this revision
		}
		if _, err := d.Policy(); err == nil {
			return d
		}
	}
	return nil
}

func revisionOf(d *record.Document) uint64 {
	if d == nil {
		return 0
	}
	return d.Revision
}

// past returns the entries that lead to a cursor without a gap. Each entry names the one before it by its
// tag.
func (r *evidence) past(to record.Cursor) []logEntry {
	at := map[record.Cursor]logEntry{}
	for _, e := range r.all() {
		at[e.Cursor] = e
	}
	var entries []logEntry
	for e, ok := at[to]; ok; e, ok = at[to] {
		delete(at, to)
		entries, to = append(entries, e), e.Previous
	}
	slices.Reverse(entries)
	return entries
}

// log returns at most so many entries as the log of a state; none when it is unknown how the state was
// reached.
func (a *provenState) log(most int) []record.RawEntry {
	if n := len(a.past); n == 0 || a.past[n-1].Cursor != a.Cursor {
		return nil
	}
	var entries []record.RawEntry
	for _, e := range a.past[max(len(a.past)-most, 0):] {
		entries = append(entries, e.raw)
	}
	return entries
}
