package replica_test

import (
	"errors"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/testkit/storetest"
)

// TestB25_PositionOfAnEarlierEpoch is reached up to the epoch's end. It is lost after the end, or when the
// end is unknown.
func TestB25_PositionOfAnEarlierEpoch(t *testing.T) {
	simulate(t, 1, func(w *world) {
		app := w.fill(0, 3)[1]
		w.startLoaded()
		inside := w.commit(app, storetest.AddToken("inside")).Cursor
		kept := w.commit(app, storetest.AddToken("kept")).Cursor
		w.pass(2 * longestPoll)
		before := w.store.Save()
		lost := w.commit(app, storetest.AddToken("lost")).Cursor
		w.pass(2 * longestPoll)
		w.store.RollBack(before)
		next := w.store.NewEpoch(0)
		w.pass(enough)
		insideOther, other := inside, kept
		insideOther.Tag[0]++
		other.Tag[0]++
		ahead := record.Cursor{Epoch: 9, Revision: 1}
		for i, tt := range []struct {
			target record.Cursor
			want   error
		}{
			{kept, nil},
			{inside, nil},
			{insideOther, replica.ErrLost},
			{next, nil},
			{other, replica.ErrLost},
			{lost, replica.ErrLost},
			{ahead, replica.ErrNotReached},
		} {
			if _, err := w.reach(tt.target, time.Second); !errors.Is(err, tt.want) {
				w.Errorf("%d: %v: %v, want %v", i, tt.target, err, tt.want)
			}
		}
		for range record.MaxForks {
			w.store.NewEpoch(0)
		}
		w.pass(enough)
		if _, err := w.reach(kept, time.Second); !errors.Is(err, replica.ErrLost) {
			w.Errorf("an epoch that nobody remembers: %v", err)
		}
	})
}

// TestB25_PastOfBeforeTheStartIsKnownToo: a replica reads its history from the log. So it can distinguish a
// lost change from a kept one, and bring back a lost one.
func TestB25_PastOfBeforeTheStartIsKnownToo(t *testing.T) {
	simulate(t, 1, func(w *world) {
		app := w.fill(0, 3)[1]
		var made []record.Cursor
		for range 40 {
			made = append(made, w.store.Commit(app, storetest.SetState("second", policy.Disabled)).Cursor)
		}
		w.startLoaded()
		w.pass(longestPoll)
		for _, at := range made {
			other := at
			other.Tag[3]++
			if _, err := w.reach(at, time.Second); err != nil {
				w.Errorf("%v: %v", at, err)
			}
			if _, err := w.reach(other, time.Second); !errors.Is(err, replica.ErrLost) {
				w.Errorf("another change in place of %v: %v", at, err)
			}
		}
		if n := len(w.r.Links(0)); n < len(made) {
			w.Errorf("%d links", n)
		}
		w.commit(app, storetest.AddToken("later"))
		if _, err := w.reach(made[0], time.Second); err != nil {
			w.Error(err)
		}
	})
}

// TestB20_StoreBelowTheFloorIsAFork: a replica that knows the fleet's floor does not trust an old copy in
// place of the store.
func TestB20_StoreBelowTheFloorIsAFork(t *testing.T) {
	for name, when := range map[string]struct{ before, told bool }{
		"told before it starts":   {true, true},
		"told when it has loaded": {false, true},
		"not told":                {true, false},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, 2, func(w *world) {
				app := w.fill(0, 3)[1]
				w.fill(1, 2)
				old := w.store.Save()
				w.store.Commit(app, storetest.SetState("second", policy.Revoked))
				now := w.store.Save()
				at := record.Position{StoreID: w.store.Codec().StoreID(), Partition: 0, Cursor: w.store.Head(0).Cursor}
				foreign := at
				foreign.StoreID, foreign.Partition, foreign.Revision = "another", 1, 99
				w.store.RollBack(old)
				floor := func() {
					if when.told {
						w.r.SetFloor([]record.Position{at, foreign, {StoreID: at.StoreID, Partition: 7}})
					}
				}
				w.prepare()
				if when.before {
					floor()
				}
				w.run()
				w.pass(2 * longestPoll)
				if !when.before {
					floor()
				}
				w.pass(enough)
				loaded := w.r.Table().Partition(0) != nil
				age := w.age(0)
				switch {
				case !when.told && (!loaded || age > 2*longestPoll):
					w.Error("a store is refused without a reason")
				case when.told && when.before && loaded:
					w.Error("the old copy is believed")
				case when.told && !when.before && (!w.r.Forked(0) || age < enough-longestPoll):
					w.Errorf("the old copy passes for fresh: age %v\n%s", age, w.log)
				}
				w.mustBeFresh(1)
				if when.told {
					w.store.RollBack(now)
					w.pass(enough)
					w.mustEqualStore()
					w.mustBeFresh(0)
				}
			})
		})
	}
}
