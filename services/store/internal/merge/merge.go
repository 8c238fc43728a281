// Package merge merges two histories of one app that have forked (B30): three-way, token by token and setting
// by setting, starting from the last state that both share. A change that only one history made is kept.
// Where both changed the same token or setting, the side that denies more wins. Merging is a pure function:
// it reads no clock and no store. This package is not part of the public API and may change in any release.
//
// "Ours" is the history whose document is given, usually the store's. "Theirs" is the history whose changes
// are merged into it.
package merge

import (
	"cmp"
	"crypto/sha256"
	"encoding/base32"
	"slices"
	"strings"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/secret"
)

// TouchedNow stands in Token.TouchedRevision for the revision of the change that is being prepared. The
// caller replaces it once that revision is known.
const TouchedNow = ^uint64(0)

// Settings are what an app has besides tokens.
type Settings struct {
	Enforcement policy.Enforcement
	Deleted     bool
}

// Side is what their history has changed since the shared state.
type Side struct {
	// Tokens are the tokens that their history made or changed, in their latest state, in order of creation.
	Tokens []record.Token
	// Removed are the ids of the tokens that their history removed.
	Removed []string
	// Memory has the digests of revoked tokens that their history removed.
	Memory policy.Memory
	// Settings are their settings; nil when their history has not changed them.
	Settings *Settings
	// CreateMillis is when their history made the app, in milliseconds since 1970. It is used when there is
	// no document of ours.
	CreateMillis int64
}

// Touched says what our history has changed since the shared state. The zero value means nothing.
type Touched struct {
	// All says that our changes are not known, so that everything counts as changed.
	All bool
	// Tokens has the ids of the tokens that were made, changed or removed.
	Tokens   map[string]bool
	Settings bool
}

// Add records that our history has changed a token.
func (t *Touched) Add(tokenID string) {
	if t.Tokens == nil {
		t.Tokens = map[string]bool{}
	}
	t.Tokens[tokenID] = true
}

// AddLink records a change that our history has made.
func (t *Touched) AddLink(link *record.Link) {
	for i := range link.Upserts {
		t.Add(link.Upserts[i].ID)
	}
	for _, id := range link.Removed {
		t.Add(id)
	}
	t.Settings = t.Settings || !link.SettingsKept
}

// Any reports whether our history has changed anything.
func (t *Touched) Any() bool { return t.All || t.Settings || len(t.Tokens) > 0 }

func (t *Touched) token(id string) bool { return t.All || t.Tokens[id] }

// GivenUp is a value that one history had and the merged document has not.
type GivenUp struct {
	TokenID string // empty for a setting
	Field   string
	// Kept is the value in the merged document, Lost the value that was given up.
	Kept, Lost string
}

// Into merges their changes into our document of an app and returns the result, with the values that were
// given up. A nil document means that the app is not in our history. Touched says what our history has
// changed. Into does not modify the document; the result has the document's cursor. A token whose content
// neither history has gets the revision TouchedNow.
func Into(document *record.Document, touched Touched, side Side) (*record.Document, []GivenUp) {
	m := merger{touched: touched, ourNames: map[string]string{}}
	if document == nil {
		m.merged = &record.Document{CreateMillis: side.CreateMillis}
		m.touched = Touched{}
	} else {
		own := *document
		own.Tokens = slices.Clone(own.Tokens)
		m.merged = &own
		for i := range own.Tokens {
			m.ourNames[own.Tokens[i].ID] = own.Tokens[i].Name
		}
	}
	m.merged.Memory = m.merged.Memory.Union(side.Memory)
	for i := range side.Tokens {
		m.mergeToken(side.Tokens[i])
	}
	for _, id := range side.Removed {
		m.remove(id)
	}
	m.applyMemory()
	m.mergeSettings(side.Settings)
	if m.touched.Any() {
		m.reconcile(side)
	}
	return m.merged, m.givenUp
}

// merger holds the state of one merge.
type merger struct {
	merged   *record.Document // our document, changed step by step
	touched  Touched
	ourNames map[string]string // of the tokens of our document, by id
	givenUp  []GivenUp
}

// find returns the index of the first matching token; -1 when there is none.
func (m *merger) find(matches func(*record.Token) bool) int {
	for i := range m.merged.Tokens {
		if matches(&m.merged.Tokens[i]) {
			return i
		}
	}
	return -1
}

// mergeToken merges a token that their history has made or changed.
func (m *merger) mergeToken(t record.Token) {
	i := m.find(func(ours *record.Token) bool { return ours.ID == t.ID })
	same := m.find(func(ours *record.Token) bool { return ours.Digest == t.Digest })
	switch {
	case same >= 0 && same != i:
		m.mergeSameSecret(same, t)
	case i < 0:
		m.merged.Tokens = append(m.merged.Tokens, t)
	case m.merged.Tokens[i].Digest != t.Digest:
		// Two tokens with one id: ours keeps it.
		m.giveUp(t.ID, "token_id", t.ID, IDOf(t.Digest))
		t.ID, t.TouchedRevision = IDOf(t.Digest), TouchedNow
		if m.find(func(ours *record.Token) bool { return ours.ID == t.ID }) < 0 {
			m.merged.Tokens = append(m.merged.Tokens, t)
		}
	case !m.touched.token(t.ID) && (m.merged.Tokens[i].State != policy.Revoked || t.State == policy.Revoked):
		m.merged.Tokens[i] = t
	default:
		m.merged.Tokens[i] = m.mergeBoth(m.merged.Tokens[i], t)
	}
}

// mergeSameSecret merges their token into our token i, which has the same secret and another id. A policy
// cannot have both. The merged token gets the lesser id.
func (m *merger) mergeSameSecret(i int, t record.Token) {
	ours := m.merged.Tokens[i]
	kept, lost := min(ours.ID, t.ID), max(ours.ID, t.ID)
	m.giveUp(kept, "token_id", kept, lost)
	t.ID = ours.ID
	joined := m.mergeBoth(ours, t)
	if joined.ID != kept {
		joined.ID, joined.TouchedRevision = kept, TouchedNow
	}
	m.merged.Tokens[i] = joined
}

// remove removes a token that their history has removed, unless our history has changed it. A revoked token
// is never removed (B08).
func (m *merger) remove(id string) {
	i := m.find(func(ours *record.Token) bool { return ours.ID == id })
	if i < 0 || m.merged.Tokens[i].State == policy.Revoked {
		return
	}
	if m.touched.token(id) {
		m.giveUp(id, "removed", "false", "true")
		return
	}
	m.merged.Tokens = slices.Delete(m.merged.Tokens, i, i+1)
}

// applyMemory makes sure that no token with a remembered digest authenticates. Revoked tokens with such a
// digest are dropped, because the memory alone is enough for them; other tokens are revoked.
func (m *merger) applyMemory() {
	if m.merged.Memory.Len() == 0 {
		return
	}
	m.merged.Tokens = slices.DeleteFunc(m.merged.Tokens, func(t record.Token) bool {
		return t.State == policy.Revoked && m.merged.Memory.Has(&t.Digest)
	})
	for i := range m.merged.Tokens {
		if t := &m.merged.Tokens[i]; m.merged.Memory.Has(&t.Digest) {
			m.giveUp(t.ID, "state", stateText(policy.Revoked), stateText(t.State))
			t.State, t.TouchedRevision = policy.Revoked, TouchedNow
		}
	}
}

// mergeSettings merges their settings; nil when their history has not changed them.
func (m *merger) mergeSettings(theirs *Settings) {
	if theirs == nil {
		return
	}
	ours := Settings{m.merged.Enforcement, m.merged.Deleted}
	next := *theirs
	if m.touched.All || m.touched.Settings {
		next = Settings{unionOf(ours.Enforcement, theirs.Enforcement), ours.Deleted && theirs.Deleted}
		for _, s := range []Settings{ours, *theirs} {
			if s.Enforcement != next.Enforcement {
				m.giveUp("", "enforcement", enforcementText(next.Enforcement), enforcementText(s.Enforcement))
			}
			if s.Deleted != next.Deleted {
				m.giveUp("", "deleted", boolText(next.Deleted), boolText(s.Deleted))
			}
		}
	}
	m.merged.Enforcement, m.merged.Deleted = next.Enforcement, next.Deleted
}

// reconcile makes the merged document obey the rules that hold for a single history:
//
//   - A deleted app has no token that works and enforces nothing. Otherwise it is not deleted.
//   - No two tokens have one name because each history gave it to another token.
//   - Tokens are in order of creation.
func (m *merger) reconcile(side Side) {
	works := slices.ContainsFunc(m.merged.Tokens, func(t record.Token) bool { return t.State != policy.Revoked })
	if m.merged.Deleted && (works || m.merged.Enforcement != policy.Enforcement{}) {
		m.merged.Deleted = false
		m.giveUp("", "deleted", boolText(false), boolText(true))
	}
	m.resolveNames(side)
	slices.SortStableFunc(m.merged.Tokens, func(a, b record.Token) int { return cmp.Compare(a.CreateMillis, b.CreateMillis) })
}

func (m *merger) giveUp(tokenID, field, kept, lost string) {
	m.givenUp = append(m.givenUp, GivenUp{TokenID: tokenID, Field: field, Kept: kept, Lost: lost})
}

// IDOf returns the id for a token whose own id belongs to another token. It depends only on the token's
// digest, so that every merge gives the same id.
func IDOf(d secret.Digest) string {
	h := sha256.Sum256(d[:])
	return "tok_" + strings.ToLower(base32.StdEncoding.EncodeToString(h[:10]))
}
