package replica_test

import (
	"slices"
	"testing"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/testkit/storetest"
)

// TestB08_RevocationSeenStaysInForce, whatever takes it back: a hint that the store lost, a new epoch on a
// store that lost it, an app that vanishes and comes back, and later changes of the app.
func TestB08_RevocationSeenStaysInForce(t *testing.T) {
	revoke := storetest.SetState("second", policy.Revoked)
	for name, lose := range map[string]func(w *world, app string, before storetest.State){
		"hint that the store lost": func(w *world, app string, _ storetest.State) { w.phantom(app, revoke) },
		"new epoch on a store that lost it": func(w *world, app string, before storetest.State) {
			w.commit(app, revoke)
			w.pass(2 * longestPoll)
			w.store.RollBack(before)
			w.store.NewEpoch(0)
		},
		"new epoch on a store where both sides went on": func(w *world, app string, before storetest.State) {
			w.commit(app, revoke)
			w.pass(2 * longestPoll)
			w.store.RollBack(before)
			w.store.Commit(app, storetest.AddToken("other side"))
			w.store.NewEpoch(0)
		},
		"new epoch on a store where the token has another id": func(w *world, app string, before storetest.State) {
			w.commit(app, revoke)
			w.pass(2 * longestPoll)
			w.store.RollBack(before)
			again := storetest.Token("again", "second")
			w.store.Commit(app, storetest.Remove("second"), storetest.Add(again))
			w.store.NewEpoch(0)
		},
		"change of the authority that takes it back": func(w *world, app string, _ storetest.State) {
			w.commit(app, revoke)
			w.commit(app, storetest.SetState("second", policy.Active))
		},
		"change that removes the token": func(w *world, app string, _ storetest.State) {
			w.commit(app, revoke)
			w.commit(app, storetest.Remove("second"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, 1, func(w *world) {
				app := w.fill(0, 3)[1]
				w.startLoaded()
				before := w.store.Save()
				lose(w, app, before)
				must := func(when string) {
					w.Helper()
					digest := storetest.Token("", "second").Digest
					entry := w.entry(app)
					if token := entry.Policy.FindDigest(digest); token == nil || token.State != policy.Revoked {
						w.Errorf("%s the token is %+v\n%s", when, token, w.log)
					}
					if kept := w.r.Sticky(0); len(kept) != 1 || kept[0].AppID != app || kept[0].Token.Digest != digest || !entry.Kept() {
						w.Errorf("%s held against the store: %+v", when, kept)
					}
					if !w.r.KeptRevoked(0, app, digest) || w.r.Stats().Sticky != 1 {
						w.Errorf("%s it is not counted", when)
					}
				}
				if state := w.tokens(app)["second"]; state == policy.Active {
					w.Error("it is not revoked at once")
				}
				w.pass(enough)
				w.mustEqualStore()
				must("after some time")
				w.commit(app, storetest.AddToken("later"))
				must("after another change")
				w.store.NewEpoch(0)
				w.pass(enough)
				w.mustEqualStore()
				must("in the next epoch")

				// Once the store has the revocation, it is no longer sticky.
				document := w.store.Document(app)
				id := "second"
				if slices.ContainsFunc(document.Tokens, func(t record.Token) bool { return t.ID == "again" }) {
					id = "again"
				}
				if slices.ContainsFunc(document.Tokens, func(t record.Token) bool { return t.ID == id }) {
					w.commit(app, storetest.SetState(id, policy.Revoked))
				} else {
					w.commit(app, storetest.AddToken("second"), revoke)
				}
				if entry := w.entry(app); entry.Kept() || len(w.r.Sticky(0)) != 0 {
					w.Errorf("still held: %+v", w.r.Sticky(0))
				}
			})
		})
	}
}

// TestB08_RememberedDigestStaysInForce, although the store has gone back to before the revocation, or has
// forgotten it.
func TestB08_RememberedDigestStaysInForce(t *testing.T) {
	for name, lost := range map[string]storetest.Change{
		"active again": storetest.Enforce(sessions), "gone": storetest.Remove("second"),
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, 1, func(w *world) {
				app := w.fill(0, 3)[1]
				w.startLoaded()
				before := w.store.Save()
				token := storetest.Token("", "second").Token
				remember := func(d *record.Document) { d.Memory = d.Memory.With(token) }
				w.commit(app, storetest.SetState("second", policy.Revoked))
				w.commit(app, storetest.Remove("second"), remember)
				if p := w.entry(app).Policy; p.FindDigest(token.Digest) != nil || !p.Memory().Has(&token.Digest) ||
					len(w.r.Sticky(0)) != 0 {
					w.Fatalf("the change remembers %d digests, and %v is held", p.Memory().Len(), w.r.Sticky(0))
				}
				w.pass(2 * longestPoll)
				w.store.RollBack(before)
				w.store.Commit(app, lost)
				w.store.NewEpoch(0)
				w.pass(enough)
				w.mustEqualStore()
				if p := w.entry(app).Policy; !p.Revokes(&policy.Token{ID: "any", Digest: token.Digest}) {
					w.Errorf("it is not revoked: %+v", p.FindDigest(token.Digest))
				}
				if kept := w.r.Sticky(0); len(kept) != 1 || kept[0].Token.ID != "" || !w.r.KeptRevoked(0, app, token.Digest) {
					w.Errorf("held against the store: %+v", kept)
				}
				w.commit(app, storetest.Remove("second"), remember)
				if kept := w.r.Sticky(0); len(kept) != 0 {
					w.Errorf("still held: %+v", kept)
				}
			})
		})
	}
}
