package store

import (
	"cmp"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/secret"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/store/internal/merge"
)

// change describes what a healing does to one app's document. Before is nil for a new document. After is the
// same pointer as before when the document does not change. Both are nil when the app stays missing. The
// caller sets the cursor of after, and replaces each TouchedRevision that is merge.TouchedNow.
type change struct {
	appID         string
	before, after *record.Document
	// healed are the app's lost changes. GivenUp are the values that the merge dropped, of the lost history
	// or of the store's.
	healed  []*countersignv1.HealedChange
	givenUp []merge.GivenUp
}

// merge computes how lost changes are brought back. It returns a change for each app that has lost changes or
// whose document a sticky revocation changes, in order of app ids. Documents are the store's documents of all
// apps.
//
// Each lineage is one history of an app. merge.Into merges it with the store's history by B30, three-way from
// the state where the lineage left that history. If a lineage may have been settled before and the store has
// changed the app since, only the lineage's revocations count. An app that the store lacks stays missing when
// only a part of its history was supplied.
func (l *loss) merge(documents map[string]*record.Document, sticky []replica.Sticky, nowMillis int64) []change {
	m := merger{apps: map[string]*healing{}, stored: documents, now: nowMillis}
	var later []func() // lineages that change a document which only another lineage can bring back
	for _, lineage := range l.all() {
		sides := map[string][]*record.Link{}
		var order []string
		for _, e := range lineage.entries {
			if e.Link == nil {
				continue
			}
			if sides[e.Link.AppID] == nil {
				order = append(order, e.Link.AppID)
			}
			sides[e.Link.AppID] = append(sides[e.Link.AppID], e.Link)
		}
		for _, id := range order {
			if app, links := m.app(id), sides[id]; app.document == nil && links[0].PreviousAppRevision != 0 {
				later = append(later, func() { app.take(l, &lineage, links) })
			} else {
				app.take(l, &lineage, links)
			}
		}
	}
	for _, take := range later {
		take()
	}
	held := map[string][]record.Token{}
	for _, s := range sticky {
		held[s.AppID] = append(held[s.AppID], record.Token{Token: s.Token})
	}
	for id, tokens := range held {
		m.app(id).revoke(tokens)
	}
	var changes []change
	for _, app := range m.apps {
		if !app.changed && len(app.healed) == 0 {
			continue
		}
		if app.changed {
			app.document.AppID, app.document.UpdateMillis = app.id, nowMillis
		}
		changes = append(changes, change{app.id, documents[app.id], app.document, app.healed, app.givenUp})
	}
	slices.SortFunc(changes, func(a, b change) int { return cmp.Compare(a.appID, b.appID) })
	return changes
}

// merger is a merge in progress.
type merger struct {
	apps   map[string]*healing
	stored map[string]*record.Document
	now    int64
}

// healing is the merge of one app.
type healing struct {
	id     string
	now    int64
	stored *record.Document
	// document is the app's document so far, nil for none. It is the store's own until changed is set.
	document *record.Document
	changed  bool
	// seen are the lost changes that take was called for. Applied are the lost changes that were merged.
	// Dealt are the tags of changes whose copies the merged lineages hold (see heal_copies.go).
	seen    map[record.Cursor]bool
	applied []*record.Link
	dealt   map[record.Tag]bool
	healed  []*countersignv1.HealedChange
	givenUp []merge.GivenUp
}

func (m *merger) app(id string) *healing {
	if m.apps[id] == nil {
		m.apps[id] = &healing{
			id: id, now: m.now, stored: m.stored[id], document: m.stored[id], seen: map[record.Cursor]bool{},
			dealt: map[record.Tag]bool{},
		}
	}
	return m.apps[id]
}

// take merges links, the changes of the app in one lineage, into the document.
func (h *healing) take(l *loss, from *lineage, links []*record.Link) {
	links = slices.DeleteFunc(links, func(link *record.Link) bool { return h.seen[link.Cursor] })
	if len(links) == 0 {
		return
	}
	for _, link := range links {
		h.seen[link.Cursor] = true
		h.healed = append(h.healed, &countersignv1.HealedChange{
			Identities: link.Authors, ChangeTime: timestamppb.New(time.UnixMilli(link.CommitMillis)), Epoch: link.Epoch,
			Revision: link.Revision,
		})
	}
	if h.document == nil && links[0].PreviousAppRevision != 0 {
		// An incomplete app must not be restored: its missing tokens would be denied as unknown.
		h.giveUp("no app", "the app's earlier changes were not supplied")
		return
	}
	others, told := h.others(l, from, links[0])
	earlier := from.earlier[h.id]
	own, others := l.apart(slices.Concat(earlier, links), others)
	own = slices.DeleteFunc(own[len(earlier):], func(link *record.Link) bool { return h.dealt[link.Tag] })
	touched := merge.Touched{All: !told}
	for _, link := range others {
		// A change that the lineage has settled does not count as a change by others: the lineage holds a
		// copy of it.
		if !from.dealt[link.Tag] {
			touched.AddLink(link)
		}
	}
	switch {
	case len(own) == 0: // a lineage that was merged before has copies of all these changes
	case from.doubtful && h.document != nil && touched.Any():
		h.giveUp("the store's, and what was revoked", "it may have been dealt with before")
	default:
		merged, givenUp := merge.Into(h.document, touched, sideOf(own))
		if _, err := merged.Policy(); err != nil {
			h.giveUp("the store's, and what was revoked", "the two cannot be merged: "+err.Error())
			break
		}
		h.givenUp = append(h.givenUp, givenUp...)
		if h.document == nil || !sameContent(merged, h.document) {
			h.document, h.changed = merged, true
		}
		h.applied = append(h.applied, own...)
		h.deal(l, from, own[len(own)-1])
	}
	h.keepRevoked(links)
	h.distinguish(links)
}

// others returns the changes in the document that are not in a lineage: the store's changes since the fork,
// and the merged changes of other lineages. Told is false when the store's changes since the fork are
// unknown. First is the lineage's first change of the app.
func (h *healing) others(l *loss, from *lineage, first *record.Link) (links []*record.Link, told bool) {
	if earlier := from.earlier[h.id]; len(earlier) > 0 {
		first = earlier[0]
	}
	switch {
	case h.stored == nil:
		told = true
	case from.shared, from.dealt[h.stored.Tag]:
		links, told = l.past.since(h.stored, from.fork, from.dealt)
	case from.assumed && h.stored.Revision <= from.fork.Revision:
		// The lineage made its first change from the revision that the store has, so the store has not
		// changed the app since. No other history can have that revision: its changes after the fork would
		// all be in the lineage.
		told = first.PreviousAppRevision == h.stored.Revision
	}
	return slices.DeleteFunc(append(links, h.applied...),
		func(link *record.Link) bool { return from.ancestors[link.Cursor] }), told
}

// deal adds to dealt the changes whose copies a lineage holds. These are the changes that an epoch in the
// lineage settled, if it began before the lineage's last change of the app. The lineage may lack the copies
// of a later epoch.
func (h *healing) deal(l *loss, from *lineage, last *record.Link) {
	for _, e := range from.entries {
		if e.Revision < last.Revision {
			l.collect(h.dealt, e.Settled)
		}
	}
}

func (h *healing) giveUp(kept, why string) {
	h.givenUp = append(h.givenUp, merge.GivenUp{Field: "change", Kept: kept, Lost: why})
}

// sideOf returns what consecutive links of one app have changed together. It ignores the settings of a link
// with SettingsKept. Such a link did not change the settings, and they may come from a document that was lost
// before.
func sideOf(links []*record.Link) merge.Side {
	side := merge.Side{CreateMillis: links[0].CommitMillis}
	for _, link := range links {
		side.Tokens = slices.DeleteFunc(side.Tokens, func(t record.Token) bool { return slices.Contains(link.Removed, t.ID) })
		side.Removed = slices.DeleteFunc(append(side.Removed, link.Removed...), func(id string) bool {
			return slices.ContainsFunc(link.Upserts, func(t record.Token) bool { return t.ID == id })
		})
		for _, t := range link.Upserts {
			if i := slices.IndexFunc(side.Tokens, func(has record.Token) bool { return has.ID == t.ID }); i >= 0 {
				side.Tokens[i] = t
			} else {
				side.Tokens = append(side.Tokens, t)
			}
		}
		side.Memory = side.Memory.Union(link.Remembered)
		if !link.SettingsKept {
			side.Settings = &merge.Settings{Enforcement: link.Enforcement, Deleted: link.Deleted}
		}
	}
	return side
}

// keepRevoked keeps every revocation among lost changes in force, whatever the merge decided.
func (h *healing) keepRevoked(links []*record.Link) {
	var tokens []record.Token
	for _, link := range links {
		for _, t := range link.Upserts {
			if t.State == policy.Revoked {
				tokens = append(tokens, t)
			}
		}
		for t := range link.Remembered.Tokens() {
			tokens = append(tokens, record.Token{Token: t})
		}
	}
	h.revoke(tokens)
}

// distinguish gives the document and its tokens new revisions where a client may hold the same etag from a
// lost change with other content.
func (h *healing) distinguish(links []*record.Link) {
	for _, link := range links {
		if h.document == nil {
			return
		}
		if h.document == h.stored && h.document.Revision == link.Revision && h.document.Cursor != link.Cursor {
			h.edit()
		}
		for _, t := range link.Upserts {
			i := slices.IndexFunc(h.document.Tokens, func(has record.Token) bool { return has.ID == t.ID })
			if i >= 0 && h.document.Tokens[i].TouchedRevision == t.TouchedRevision && h.document.Tokens[i] != t {
				h.edit()
				h.document.Tokens[i].TouchedRevision = merge.TouchedNow
			}
		}
	}
}

// revoke makes sure that the secrets of some tokens never work again (B08). It revokes the document's tokens
// with the same digest. Without such a token, it adds the token as revoked. It adds only the digest to the
// document's memory when the document has no room or only the digest is known. It makes no document for a
// missing app: none of the app's tokens works, and a document without settings would look like an app that
// enforces nothing.
func (h *healing) revoke(tokens []record.Token) {
	if h.document == nil || len(tokens) == 0 {
		return
	}
	var forgotten []policy.Token
	at := indexOf(h.document.Tokens)
	for _, t := range tokens {
		held := at.digests[t.Digest]
		if t.ID == "" {
			held = at.prefixes[prefixOf(t.Digest)] // only the prefix of a digest is known
		}
		for _, i := range held {
			if h.document.Tokens[i].State != policy.Revoked {
				h.edit()
				h.end(&h.document.Tokens[i], t.RevokeMillis)
			}
		}
		switch {
		case len(held) > 0 || h.document.Memory.Has(&t.Digest):
		case t.ID == "" || len(h.document.Tokens) >= maxHealedTokens:
			forgotten = append(forgotten, t.Token)
		default:
			h.edit()
			if at.ids[t.ID] {
				t.ID = merge.IDOf(t.Digest)
			}
			if t.Name == "" {
				t.Name = t.ID // sticky revocations have no names
			}
			h.end(&t, t.RevokeMillis)
			h.document.Tokens = append(h.document.Tokens, t)
			at.add(len(h.document.Tokens)-1, &t)
		}
	}
	if len(forgotten) > 0 {
		h.edit()
		h.document.Memory = h.document.Memory.With(forgotten...)
	}
}

// end revokes a token.
func (h *healing) end(t *record.Token, millis int64) {
	t.State, t.TouchedRevision, t.UpdateMillis = policy.Revoked, merge.TouchedNow, h.now
	if t.RevokeMillis = millis; millis == 0 {
		t.RevokeMillis = h.now
	}
}

// maxHealedTokens bounds the tokens that a healing lists. When a document has so many tokens, a healing puts
// the digest of a further revoked token into the document's memory. The rules allow an app far fewer tokens.
// A document with this many tokens is always below record.MaxDocument and policy.MaxTokens. A document beyond
// these limits could not be written, and the partition would never be healed.
const maxHealedTokens = policy.MaxTokens / 4

// index finds tokens of a document.
type index struct {
	ids      map[string]bool
	digests  map[secret.Digest][]int
	prefixes map[[policy.MemorySize]byte][]int
}

func indexOf(tokens []record.Token) index {
	at := index{map[string]bool{}, map[secret.Digest][]int{}, map[[policy.MemorySize]byte][]int{}}
	for i := range tokens {
		at.add(i, &tokens[i])
	}
	return at
}

func (at index) add(i int, t *record.Token) {
	prefix := prefixOf(t.Digest)
	at.ids[t.ID] = true
	at.digests[t.Digest], at.prefixes[prefix] = append(at.digests[t.Digest], i), append(at.prefixes[prefix], i)
}

func prefixOf(d secret.Digest) [policy.MemorySize]byte {
	return [policy.MemorySize]byte(d[:policy.MemorySize])
}

// edit marks the document as changed. It first copies the document if it is the store's own.
func (h *healing) edit() {
	h.changed = true
	if h.document != h.stored {
		return
	}
	own := *h.document
	own.Tokens = slices.Clone(own.Tokens)
	h.document = &own
}

// sameContent reports whether two documents of one app differ only in their cursors and times.
func sameContent(a, b *record.Document) bool {
	return a.Enforcement == b.Enforcement && a.Deleted == b.Deleted && a.Memory == b.Memory && slices.Equal(a.Tokens, b.Tokens)
}
