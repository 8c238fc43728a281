// Package merge joins two pasts of one app (B30): three-way, by token and by setting, from the last state
// that both share. What only one side changed is kept. Of what both changed, the side that denies more
// stays. It is a pure function: it reads no clock and no store.
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

// TouchedNow stands for the revision of the change that is being prepared, in Token.TouchedRevision.
const TouchedNow = ^uint64(0)

// Settings are what an app has besides tokens.
type Settings struct {
	Enforcement policy.Enforcement
	Deleted     bool
}

// Side is what one past of an app has changed since the shared state.
type Side struct {
	// Tokens are those that it made or changed, as they are at its end, in order of creation. Removed are
	// ids of tokens that it removed.
	Tokens  []record.Token
	Removed []string
	// Memory has the digests of revoked tokens that it removed.
	Memory policy.Memory
	// Settings are nil when it left them as they were.
	Settings *Settings
	// CreateMillis is when it made the app, for an app that the other past does not have.
	CreateMillis int64
}

// Touched tells what the other past has changed since the shared state.
type Touched struct {
	// All says that it cannot be told: everything counts as changed.
	All      bool
	Tokens   map[string]bool
	Settings bool
}

// Add notes that the other past has changed a token.
func (t *Touched) Add(tokenID string) {
	if t.Tokens == nil {
		t.Tokens = map[string]bool{}
	}
	t.Tokens[tokenID] = true
}

// AddLink notes a change that the other past has made.
func (t *Touched) AddLink(link *record.Link) {
	for i := range link.Upserts {
		t.Add(link.Upserts[i].ID)
	}
	for _, id := range link.Removed {
		t.Add(id)
	}
	t.Settings = t.Settings || !link.SettingsKept
}

// Any tells whether the other past has changed anything.
func (t *Touched) Any() bool { return t.All || t.Settings || len(t.Tokens) > 0 }

func (t *Touched) token(id string) bool { return t.All || t.Tokens[id] }

// GivenUp is a value of one past that was given up for that of the other.
type GivenUp struct {
	TokenID string // empty for a setting
	Field   string
	// Kept is the value that counts, Lost the one that was given up.
	Kept, Lost string
}

// Into merges a side into an app's document of the other past, nil for none, of which touched tells what it
// has changed. The document is not changed; what is returned has its cursor. Tokens whose content is new
// have the revision TouchedNow.
func Into(document *record.Document, touched Touched, side Side) (*record.Document, []GivenUp) {
	m := merging{touched: touched, names: map[string]string{}}
	if document == nil {
		m.after = &record.Document{CreateMillis: side.CreateMillis}
		m.touched = Touched{}
	} else {
		own := *document
		own.Tokens = slices.Clone(own.Tokens)
		m.after = &own
		for i := range own.Tokens {
			m.names[own.Tokens[i].ID] = own.Tokens[i].Name
		}
	}
	m.after.Memory = m.after.Memory.Union(side.Memory)
	for i := range side.Tokens {
		m.token(side.Tokens[i])
	}
	for _, id := range side.Removed {
		m.remove(id)
	}
	m.remember()
	m.settings(side.Settings)
	if m.touched.Any() {
		m.reconcile(side)
	}
	return m.after, m.givenUp
}

// merging is a merge under way.
type merging struct {
	after   *record.Document
	touched Touched
	names   map[string]string // of the other past's tokens, by id
	givenUp []GivenUp
}

func (m *merging) find(is func(*record.Token) bool) int {
	for i := range m.after.Tokens {
		if is(&m.after.Tokens[i]) {
			return i
		}
	}
	return -1
}

// token takes in a token that the side has made or changed.
func (m *merging) token(t record.Token) {
	i := m.find(func(has *record.Token) bool { return has.ID == t.ID })
	same := m.find(func(has *record.Token) bool { return has.Digest == t.Digest })
	switch {
	case same >= 0 && same != i:
		m.sameSecret(same, t)
	case i < 0:
		m.after.Tokens = append(m.after.Tokens, t)
	case m.after.Tokens[i].Digest != t.Digest:
		// Two tokens with one id: the other past's keeps it.
		m.giveUp(t.ID, "token_id", t.ID, IDOf(t.Digest))
		t.ID, t.TouchedRevision = IDOf(t.Digest), TouchedNow
		if m.find(func(has *record.Token) bool { return has.ID == t.ID }) < 0 {
			m.after.Tokens = append(m.after.Tokens, t)
		}
	case !m.touched.token(t.ID) && (m.after.Tokens[i].State != policy.Revoked || t.State == policy.Revoked):
		m.after.Tokens[i] = t
	default:
		m.after.Tokens[i] = m.both(m.after.Tokens[i], t)
	}
}

// sameSecret joins two tokens that were made of one secret, which a policy cannot both hold.
func (m *merging) sameSecret(i int, t record.Token) {
	a := m.after.Tokens[i]
	kept, lost := min(a.ID, t.ID), max(a.ID, t.ID)
	m.giveUp(kept, "token_id", kept, lost)
	t.ID = a.ID
	joined := m.both(a, t)
	if joined.ID != kept {
		joined.ID, joined.TouchedRevision = kept, TouchedNow
	}
	m.after.Tokens[i] = joined
}

// remove removes a token that the side has removed, unless the other past has changed it. A revoked one is
// remembered for ever (B08).
func (m *merging) remove(id string) {
	i := m.find(func(has *record.Token) bool { return has.ID == id })
	if i < 0 || m.after.Tokens[i].State == policy.Revoked {
		return
	}
	if m.touched.token(id) {
		m.giveUp(id, "removed", "false", "true")
		return
	}
	m.after.Tokens = slices.Delete(m.after.Tokens, i, i+1)
}

// remember makes sure that no token with a remembered digest authenticates. One that is revoked is not
// listed beside that.
func (m *merging) remember() {
	if m.after.Memory.Len() == 0 {
		return
	}
	m.after.Tokens = slices.DeleteFunc(m.after.Tokens, func(t record.Token) bool {
		return t.State == policy.Revoked && m.after.Memory.Has(&t.Digest)
	})
	for i := range m.after.Tokens {
		if t := &m.after.Tokens[i]; m.after.Memory.Has(&t.Digest) {
			m.giveUp(t.ID, "state", stateText(policy.Revoked), stateText(t.State))
			t.State, t.TouchedRevision = policy.Revoked, TouchedNow
		}
	}
}

// settings takes in the settings that the side has changed, nil for none.
func (m *merging) settings(theirs *Settings) {
	if theirs == nil {
		return
	}
	ours := Settings{m.after.Enforcement, m.after.Deleted}
	next := *theirs
	if m.touched.All || m.touched.Settings {
		next = Settings{enforcementOf(ours.Enforcement, theirs.Enforcement), ours.Deleted && theirs.Deleted}
		for _, s := range []Settings{ours, *theirs} {
			if s.Enforcement != next.Enforcement {
				m.giveUp("", "enforcement", enforcementText(next.Enforcement), enforcementText(s.Enforcement))
			}
			if s.Deleted != next.Deleted {
				m.giveUp("", "deleted", boolText(next.Deleted), boolText(s.Deleted))
			}
		}
	}
	m.after.Enforcement, m.after.Deleted = next.Enforcement, next.Deleted
}

// reconcile makes a document of two pasts one that the rules allow: a deleted app has no token that works
// and enforces nothing, two tokens that either past has given one name have two, and tokens are in order of
// creation.
func (m *merging) reconcile(side Side) {
	live := slices.ContainsFunc(m.after.Tokens, func(t record.Token) bool { return t.State != policy.Revoked })
	if m.after.Deleted && (live || m.after.Enforcement != policy.Enforcement{}) {
		m.after.Deleted = false
		m.giveUp("", "deleted", boolText(false), boolText(true))
	}
	m.rename(side)
	slices.SortStableFunc(m.after.Tokens, func(a, b record.Token) int { return cmp.Compare(a.CreateMillis, b.CreateMillis) })
}

func (m *merging) giveUp(tokenID, field, kept, lost string) {
	m.givenUp = append(m.givenUp, GivenUp{TokenID: tokenID, Field: field, Kept: kept, Lost: lost})
}

// IDOf returns an id for a token whose own id another one has.
func IDOf(d secret.Digest) string {
	h := sha256.Sum256(d[:])
	return "tok_" + strings.ToLower(base32.StdEncoding.EncodeToString(h[:10]))
}
