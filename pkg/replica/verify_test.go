package replica_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/testkit/storetest"
)

// TestVerifyFindsWhatIsEditedBehindALoadedReplica: nothing else finds the edit, since no head changes. The
// replica's data stays as it is.
func TestVerifyFindsWhatIsEditedBehindALoadedReplica(t *testing.T) {
	simulate(t, 2, func(w *world) {
		apps := w.fill(0, 5)
		w.fill(1, 2)
		w.startLoaded()
		verify := func(partition int, want string, unproven bool) {
			w.Helper()
			held := w.store.Calls()
			damaged, err := w.r.Verify(w.Context(), partition)
			if got := fmt.Sprint(damaged); got != want || errors.Is(err, replica.ErrUnproven) != unproven || !unproven && err != nil {
				w.Errorf("found %s and %v, want %s", got, err, want)
			}
			if now := w.store.Calls(); now.Documents[partition] != held.Documents[partition]+1 && want != "head" {
				w.Errorf("it read the documents %d times", now.Documents[partition]-held.Documents[partition])
			}
		}
		verify(0, "[]", false)
		verify(1, "[]", false)
		whole := w.store.Save()
		w.store.SetDocument(apps[2], flipped(w.store.RawDocument(apps[2])))
		verify(0, "["+apps[2]+"]", false)
		verify(1, "[]", false)
		w.store.RollBack(whole)
		w.store.SetDocument(apps[2], nil)
		verify(0, "[]", true)
		w.store.RollBack(whole)
		old := w.store.RawDocument(apps[3])
		w.commit(apps[3], storetest.AddToken("another"))
		verify(0, "[]", false)
		w.store.SetDocument(apps[3], old)
		verify(0, "[]", true)
		w.mustBeFresh(0)
		if w.tokens(apps[2]) == nil || w.r.Stats().Undecidable != 0 {
			w.Error("what is held has changed")
		}
		w.faults(storetest.Faults{Down: errors.New("down")})
		if _, err := w.r.Verify(w.Context(), 0); err == nil || errors.Is(err, replica.ErrUnproven) {
			w.Errorf("a store that is down: %v", err)
		}
	})
}
