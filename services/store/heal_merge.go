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

// change is what a healing makes of one app's document; before is nil for a new one, and after is before
// when all that was lost was given up: both are nil when the app is left missing. The cursor of after, and
// every TouchedRevision that is merge.TouchedNow, is to be set.
type change struct {
	appID         string
	before, after *record.Document
	// healed are the lost changes that it deals with, givenUp what they or the store had that does not count.
	healed  []*countersignv1.HealedChange
	givenUp []merge.GivenUp
}

// merge brings back what was lost, and returns what becomes of each app that lost changes or sticky name,
// by app. The documents are those of the store, of all apps.
//
// Each lineage is one past of an app, and is merged with the store's by B30, which merge.Into does. What
// both share is the state at the place where the lineage left the store's past. A lineage that may have
// been dealt with before, and that the store has changed the app after, counts no more, but for what it
// revokes. An app of which there is nothing but a part of a past is left missing.
func (l *loss) merge(documents map[string]*record.Document, sticky []replica.Sticky, nowMillis int64) []change {
	m := merger{apps: map[string]*healing{}, stored: documents, now: nowMillis}
	var later []func() // what needs a document that another lineage may bring
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

// merger is a merge under way.
type merger struct {
	apps   map[string]*healing
	stored map[string]*record.Document
	now    int64
}

// healing is one app of it.
type healing struct {
	id     string
	now    int64
	stored *record.Document
	// document is the app's so far, nil for none; it is the store's until changed.
	document *record.Document
	changed  bool
	// seen are the lost changes that were looked at, applied those that were taken in, and dealt what these
	// have brought back in their own shape.
	seen    map[record.Cursor]bool
	applied []*record.Link
	dealt   map[record.Tag]bool
	healed  []*countersignv1.HealedChange
	givenUp []merge.GivenUp
}

func (m *merger) app(id string) *healing {
	if m.apps[id] == nil {
		m.apps[id] = &healing{
			id: id, now: m.now, stored: m.stored[id], document: m.stored[id], seen: map[record.Cursor]bool{}, dealt: map[record.Tag]bool{},
		}
	}
	return m.apps[id]
}

// take takes in the changes of the app that a lineage has.
func (h *healing) take(l *loss, from *lineage, links []*record.Link) {
	links = slices.DeleteFunc(links, func(link *record.Link) bool { return h.seen[link.Cursor] })
	if len(links) == 0 {
		return
	}
	for _, link := range links {
		h.seen[link.Cursor] = true
		h.healed = append(h.healed, &countersignv1.HealedChange{
			Identities: link.Authors, ChangeTime: timestamppb.New(time.UnixMilli(link.CommitMillis)), Epoch: link.Epoch, Revision: link.Revision,
		})
	}
	if h.document == nil && links[0].PreviousAppRevision != 0 {
		// A part of an app is no app: the tokens that it lacks would be denied as unknown ones.
		h.giveUp("no app", "the app's earlier changes were not supplied")
		return
	}
	others, told := h.others(l, from, links[0])
	earlier := from.earlier[h.id]
	own, others := l.apart(slices.Concat(earlier, links), others)
	own = slices.DeleteFunc(own[len(earlier):], func(link *record.Link) bool { return h.dealt[link.Tag] })
	touched := merge.Touched{All: !told}
	for _, link := range others {
		// What the lineage has dealt with is no change of others: a healing has brought it there, and it
		// went on from that.
		if !from.dealt[link.Tag] {
			touched.AddLink(link)
		}
	}
	switch {
	case len(own) == 0: // a lineage before this one has brought all of it back, and went on from there
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

// others returns what the document has that is not of a lineage: what the store has changed since the two
// parted, and what other lineages have. Told is false when it is not known what the store has changed.
// First is the lineage's first change of the app.
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
		// The lineage made its first change from the very revision that the store has, so the store has not
		// changed the app since. Another past's revision of the same number is none of these: that past's
		// changes behind the fork are all in the lineage.
		told = first.PreviousAppRevision == h.stored.Revision
	}
	return slices.DeleteFunc(append(links, h.applied...), func(link *record.Link) bool { return from.ancestors[link.Cursor] }), told
}

// deal notes what a lineage has brought back in its own shape: what was settled by the epochs that began
// before its last change of the app. Of a later epoch the lineage may lack the changes that its healing
// made.
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

// sideOf returns what links of one app, each made on the one before it, have changed. A link that left the
// settings as they were has them too, but they are no change: what they were made from may be long gone.
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

// keepRevoked makes sure that what lost changes revoke is revoked, whatever else came of them.
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

// distinguish makes sure that a client which has seen a lost change cannot take its etags for those of the
// document.
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

// revoke makes sure that the secrets of some tokens never work again: a token that has the digest of one is
// revoked, or if there is none the token is added as revoked (B08), or remembered when the document has no
// room for it. An app that is not there is left alone: it has no token that could work. A document that
// says nothing of what was enforced would tell those who know that the app is missing that it is not.
func (h *healing) revoke(tokens []record.Token) {
	if h.document == nil || len(tokens) == 0 {
		return
	}
	var forgotten []policy.Token
	at := indexOf(h.document.Tokens)
	for _, t := range tokens {
		held := at.digests[t.Digest]
		if t.ID == "" {
			held = at.prefixes[prefixOf(t.Digest)] // a remembered digest
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
				t.Name = t.ID // a replica knows no names
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

// maxHealedTokens is the number of tokens past which a healing remembers a revoked token rather than list
// it. It is far more than the rules let an app have, and far less than what a document can hold, whatever
// the tokens have in them: a document past record.MaxDocument, or a policy past policy.MaxTokens, could not
// be written, and the partition would never be healed.
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

// edit makes the document one that may be changed.
func (h *healing) edit() {
	h.changed = true
	if h.document != h.stored {
		return
	}
	own := *h.document
	own.Tokens = slices.Clone(own.Tokens)
	h.document = &own
}

// sameContent tells whether two documents of one app differ in nothing but when they were made.
func sameContent(a, b *record.Document) bool {
	return a.Enforcement == b.Enforcement && a.Deleted == b.Deleted && a.Memory == b.Memory && slices.Equal(a.Tokens, b.Tokens)
}
