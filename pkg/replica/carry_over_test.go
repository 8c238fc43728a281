package replica_test

import (
	"slices"
	"testing"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/testkit/storetest"
)

// TestChangesWhileALoadIsCompared: changes between the comparison and the swap count. A revocation stays, and
// a new app does not vanish. With more changes than the history keeps, everything is compared again.
func TestChangesWhileALoadIsCompared(t *testing.T) {
	for name, others := range map[string]int{
		"few":                0,
		"more than are kept": 2 * (replica.HistoryLength + replica.HistorySlack),
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, 1, func(w *world) {
				apps := w.fill(0, 4)
				w.startLoaded()
				shown := w.r.Retake(0, func() {
					w.commit(apps[0], storetest.SetState("second", policy.Revoked))
					w.commit("new", storetest.AddToken("first"))
					for range others {
						w.commit(apps[1], storetest.SetState("second", policy.Disabled))
					}
				})
				tokens := shown.Get(apps[0]).Policy.Tokens()
				i := slices.IndexFunc(tokens, func(token policy.Token) bool { return token.ID == "second" })
				if i < 0 || tokens[i].State != policy.Revoked || !shown.Get(apps[0]).Kept() {
					w.Errorf("tokens: %+v, want the second one revoked", tokens)
				}
				if missing := shown.Missing(); !slices.Equal(missing, []string{"new"}) {
					w.Errorf("missing: %q, want the new app", missing)
				}
			})
		})
	}
}
