package replica_test

import (
	"fmt"
	"testing"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/testkit/storetest"
)

// TestB20_AppThatTheStoreLostIsNotOneWithoutAPolicy: it is undecided until the store has it again.
func TestB20_AppThatTheStoreLostIsNotOneWithoutAPolicy(t *testing.T) {
	simulate(t, 1, func(w *world) {
		w.fill(0, 3)
		app, deleted, other := w.store.App(0, 20), w.store.App(0, 21), w.store.App(0, 22)
		w.startLoaded()
		before := w.store.Save()
		w.commit(app, storetest.AddToken("leaked"), storetest.Enforce(1), storetest.SetState("leaked", policy.Revoked))
		w.commit(deleted, storetest.AddToken("x"), storetest.SetState("x", policy.Revoked),
			func(d *record.Document) { d.Deleted = true })
		w.pass(2 * longestPoll)
		w.store.RollBack(before)
		w.store.NewEpoch(0)
		w.pass(enough)
		w.mustEqualStore()
		for id, want := range map[string]bool{app: true, deleted: false, other: false} {
			if w.entry(id) != nil || w.r.Table().Find(id).Missing != want {
				t.Errorf("%s: missing %t, want %t; entry %+v", id, w.r.Table().Find(id).Missing, want, w.entry(id))
			}
		}
		all := w.keep()
		w.stop()
		w.startFrom(all)
		w.pass(enough)
		if !w.r.Table().Find(app).Missing {
			t.Error("it is forgotten by what is kept")
		}
		w.store.NewEpoch(0)
		w.pass(enough)
		if !w.r.Table().Find(app).Missing {
			t.Error("it is forgotten in the next epoch")
		}
		if w.r.Table().Find(deleted).Missing {
			t.Error("a deleted app is missing in the next epoch")
		}
		w.commit(app, storetest.AddToken("new"))
		if w.r.Table().Find(app).Missing || w.r.Stats().Missing != 0 {
			t.Error("it is missing though it was made again")
		}
		w.pass(enough)
		w.store.NewEpoch(0)
		w.pass(enough)
		w.mustEqualStore()
		if w.r.Table().Find(app).Missing {
			t.Error("it is missing though it is there again")
		}
	})
}

// TestB20_AppOfALostHintIsMissing: an app whose creation a failover took back is undecided, however far the
// store has moved since.
func TestB20_AppOfALostHintIsMissing(t *testing.T) {
	for others := range 6 {
		simulate(t, 1, func(w *world) {
			apps := w.fill(0, 3)
			app := w.store.App(0, 20)
			w.startLoaded()
			w.pass(2 * longestPoll)
			before := w.store.Save()
			w.faults(storetest.Faults{Hint: deaf, Down: errRefused})
			made := w.store.Commit(app, storetest.AddToken("a"))
			enforced := w.store.Commit(app, storetest.Enforce(1))
			w.r.Offer(0, made.Link)
			w.r.Offer(0, enforced.Link)
			w.store.RollBack(before)
			for i := range others {
				w.store.Commit(apps[2], storetest.AddToken(fmt.Sprint("other", i)))
			}
			w.faults(storetest.Faults{Hint: deaf})
			w.pass(enough)
			w.mustEqualStore()
			if view := w.r.Table().Find(app); !view.Missing {
				t.Errorf("after %d other changes: %+v\n%s", others, view, w.log)
			}
		})
	}
}

// TestB08_RevocationIsRememberedForAnAppThatTheStoreLost, until the app comes back.
func TestB08_RevocationIsRememberedForAnAppThatTheStoreLost(t *testing.T) {
	simulate(t, 1, func(w *world) {
		w.fill(0, 3)
		app := w.store.App(0, 20)
		w.startLoaded()
		before := w.store.Save()
		w.commit(app, storetest.AddToken("leaked"), storetest.SetState("leaked", policy.Revoked))
		w.pass(2 * longestPoll)
		w.store.RollBack(before)
		w.store.NewEpoch(0)
		w.pass(enough)
		w.mustEqualStore()
		// A healing has no document to write the revocation to, so none is requested.
		if w.entry(app) != nil || w.r.Stats().Sticky != 1 || len(w.r.Sticky(0)) != 0 {
			w.Fatalf("the app is %+v, %d are held, to be written back are %+v", w.entry(app), w.r.Stats().Sticky, w.r.Sticky(0))
		}
		w.commit(app, storetest.AddToken("leaked"))
		if state := w.tokens(app)["leaked"]; state != policy.Revoked {
			w.Errorf("it came again in state %d", state)
		}
		w.mustEqualStore()
	})
}
