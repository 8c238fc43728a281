package store

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"slices"
	"strings"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/secret"
)

// touchedNow stands for the revision of the change that is being prepared.
const touchedNow = ^uint64(0)

// change is what a healing makes of one app's document; before is nil for a new one. The cursor of after, and every
// TouchedRevision that is touchedNow, is to be set.
type change struct{ before, after *record.Document }

// merge brings back what was lost, and returns the documents that change, by app. The documents are those of the store,
// at least of the apps that links or sticky name.
//
// A lost change is made again when its app's document is the one that it was made from. When it is not, the store has
// changed the app since, or another lineage has: then that counts, with the revocations of both, which are never
// dropped.
func (l *loss) merge(documents map[string]*record.Document, sticky []replica.Sticky, nowMillis int64) ([]change, error) {
	m := merger{apps: map[string]*healing{}, stored: documents, now: nowMillis}
	for _, lineage := range l.lineages {
		for _, e := range lineage {
			if e.link != nil {
				m.app(e.link.AppID).apply(e.link)
			}
		}
	}
	for _, e := range l.stray {
		if e.link != nil {
			m.app(e.link.AppID).revokeAll(e.link)
		}
	}
	for _, s := range sticky {
		m.app(s.AppID).revoke(record.Token{Token: s.Token})
	}
	var changes []change
	for _, app := range m.apps {
		if !app.changed {
			continue
		}
		app.document.UpdateMillis = nowMillis
		if _, err := app.document.Policy(); err != nil {
			return nil, fmt.Errorf("app %s: %w", app.id, err)
		}
		changes = append(changes, change{documents[app.id], app.document})
	}
	slices.SortFunc(changes, func(a, b change) int { return cmp.Compare(a.after.AppID, b.after.AppID) })
	return changes, nil
}

// merger is a merge under way.
type merger struct {
	apps   map[string]*healing
	stored map[string]*record.Document
	now    int64
}

// healing is one app of it.
type healing struct {
	id  string
	now int64
	// document is the app's so far, nil for none; it is shared with the store's until changed.
	document *record.Document
	changed  bool
	// divided says that a change was lost which was made from another document than this one.
	divided bool
}

func (m *merger) app(id string) *healing {
	if m.apps[id] == nil {
		m.apps[id] = &healing{id: id, now: m.now, document: m.stored[id]}
	}
	return m.apps[id]
}

// apply makes a lost change again, or of a divided app what it revokes.
func (h *healing) apply(link *record.Link) {
	held := uint64(0)
	if h.document != nil {
		held = h.document.Revision
	}
	if !h.divided && held == link.PreviousAppRevision {
		after := link.ApplyTo(h.document)
		if _, err := after.Policy(); err == nil {
			h.document, h.changed = after, true
			return
		}
	}
	h.divided = true
	h.revokeAll(link)
}

// revokeAll takes from a lost change what it revokes. Whoever has seen the change must not be able to take its etags for
// those of the store's document.
func (h *healing) revokeAll(link *record.Link) {
	for _, t := range link.Upserts {
		if t.State == policy.Revoked {
			h.revoke(t)
		}
	}
	for t := range link.Remembered.Tokens() {
		h.revoke(record.Token{Token: t})
	}
	if h.document == nil {
		return
	}
	if h.document.Revision == link.Revision && h.document.Cursor != link.Cursor {
		h.edit()
	}
	for _, t := range link.Upserts {
		i := slices.IndexFunc(h.document.Tokens, func(has record.Token) bool { return has.ID == t.ID })
		if i >= 0 && h.document.Tokens[i].TouchedRevision == t.TouchedRevision && h.document.Tokens[i] != t {
			h.edit()
			h.document.Tokens[i].TouchedRevision = touchedNow
		}
	}
}

// revoke makes sure that a token's secret never works again: the token that has its digest is revoked, or if there is
// none the token is added as revoked (B08). An app that is not there is left alone: it has no token that could work, and a
// document that says nothing of what was enforced would tell those who know that the app is missing that it is not.
func (h *healing) revoke(t record.Token) {
	if h.document == nil {
		return
	}
	size := len(t.Digest)
	if t.ID == "" {
		size = policy.MemorySize // a remembered digest
	}
	i := slices.IndexFunc(h.document.Tokens, func(has record.Token) bool { return bytes.Equal(has.Digest[:size], t.Digest[:size]) })
	switch {
	case i >= 0 && h.document.Tokens[i].State == policy.Revoked, i < 0 && h.document.Memory.Has(&t.Digest):
		return
	case i < 0 && t.ID == "":
		h.edit()
		h.document.Memory = h.document.Memory.With(t.Token)
		return
	}
	h.edit()
	if i < 0 {
		if slices.ContainsFunc(h.document.Tokens, func(has record.Token) bool { return has.ID == t.ID }) {
			t.ID = idOf(t.Digest)
		}
		if t.Name == "" {
			t.Name = t.ID // a replica knows no names
		}
		h.document.Tokens = append(h.document.Tokens, t)
		i = len(h.document.Tokens) - 1
	}
	at := &h.document.Tokens[i]
	at.State, at.TouchedRevision = policy.Revoked, touchedNow
	at.RevokeMillis, at.UpdateMillis = t.RevokeMillis, h.now
	if at.RevokeMillis == 0 {
		at.RevokeMillis = h.now
	}
}

// edit makes the document one that may be changed.
func (h *healing) edit() {
	h.changed = true
	own := *h.document
	own.Tokens = slices.Clone(own.Tokens)
	h.document = &own
}

// idOf returns an id for a token that is remembered only to be refused, and whose own id another one has.
func idOf(d secret.Digest) string {
	h := sha256.Sum256(d[:])
	return "tok_" + strings.ToLower(base32.StdEncoding.EncodeToString(h[:10]))
}
