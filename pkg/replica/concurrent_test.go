package replica_test

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/testkit/storetest"
)

// TestRevisionIsNeverAheadOfTheEntries while links are applied: a reader that sees a revision sees every
// change up to it. The test runs in real time, so that readers run between any two steps of the writer.
func TestRevisionIsNeverAheadOfTheEntries(t *testing.T) {
	const apps, changes = 5, 4000
	store := storetest.New(t, 1)
	store.Fail(storetest.Faults{Hint: deaf})
	for i := range apps {
		store.Commit(store.App(0, i), storetest.AddToken("first"))
	}
	r := replica.New(store, store.Codec(), slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	done := make(chan struct{})
	go func() { defer close(done); _ = r.Run(ctx) }()
	defer func() { cancel(); <-done }()
	if err := r.WaitLoaded(ctx); err != nil {
		t.Fatal(err)
	}
	ids := make([]string, apps)
	for i := range ids {
		ids[i] = store.App(0, i)
	}
	var stop atomic.Bool
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for n := 0; !stop.Load(); n++ {
				i := n % apps
				view := r.Table().Find(ids[i])
				// Change c is to app (c-1) mod apps, counted from the first app. So this is the app's latest
				// change up to the revision.
				least := view.Revision - (view.Revision-1-uint64(i))%apps
				if view.Entry() == nil || view.Entry().Revision < least {
					t.Errorf("%s is at %+v in a partition at %d; it was changed at %d", ids[i], view.Entry(), view.Revision, least)
					return
				}
			}
		})
	}
	for i := range changes {
		r.Offer(0, store.Commit(ids[i%apps], storetest.SetState("first", policy.State(1+i%2))).Link)
	}
	stop.Store(true)
	readers.Wait()
	if at, _, _ := r.State(0); at != store.Head(0).Cursor {
		t.Errorf("it is at %v, want %v", at, store.Head(0).Cursor)
	}
}
