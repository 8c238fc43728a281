package tools

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/testkit/check"
)

// TestB08_AdoptedStoreIsFollowedAndRevocationsStay: replicas reject a store that has lost changes, and follow
// it after its adoption.
func TestB08_AdoptedStoreIsFollowedAndRevocationsStay(t *testing.T) {
	s := newSystem(t)
	app := s.app(1, 0)
	before := s.dump()
	running, _ := s.follow()
	s.revoke(app, "first")
	s.add(app, "third")
	check.Eventually(t, "following", func() error {
		if state(running, app, "third") != policy.Active || running.Age(1, time.Now()) > time.Second {
			return fmt.Errorf("at %s", running.Cursors()[1])
		}
		return nil
	})
	lost := running.Cursors()[1]
	s.flush()
	for key, dump := range before {
		if err := s.client.Restore(t.Context(), key, 0, dump).Err(); err != nil {
			t.Fatal(err)
		}
	}
	check.Eventually(t, "refusing it", func() error {
		if !running.Forked(1) {
			return fmt.Errorf("not forked")
		}
		return nil
	})
	// Only reports tell what was lost.
	plan := check.Must(s.tools.PlanAdoption(t.Context(), 0))(t)
	if plan.Validators != 0 || len(plan.Losses) != 0 || len(plan.Missing) != 0 {
		t.Errorf("%+v", plan)
	}
	s.report("validator-1", map[int]record.Cursor{0: running.Cursors()[0], 1: lost})
	plan = check.Must(s.tools.PlanAdoption(t.Context(), 0))(t)
	if len(plan.Losses) != 1 || plan.Losses[0] != (Loss{Partition: 1, Epoch: 1, From: 7, To: 8}) ||
		plan.Losses[0].String() != "partition 1: revisions 7 to 8 of epoch 1" {
		t.Errorf("%+v", plan)
	}
	if held := s.dump(); len(held) != len(before) || held[record.KeysOf(1).Head] != before[record.KeysOf(1).Head] {
		t.Error("a plan changes the store")
	}
	if err := s.tools.Adopt(t.Context(), plan); err != nil || plan.Epochs != [2]uint64{2, 2} {
		t.Fatalf("%+v, %v", plan, err)
	}
	crossed(t, running, 2)
	if state(running, app, "first") != policy.Revoked || state(running, app, "third") != 0 {
		t.Errorf("%d, %d", state(running, app, "first"), state(running, app, "third"))
	}
	s.wantClean()
	if err := s.change(s.app(1, 0), "Add", addToken(s.app(1, 0), "early")); apierr.ReasonOf(err) != apierr.StoreUnhealed {
		t.Errorf("a change before the store is healed: %v", err)
	}
	s.heal()
	check.Eventually(t, "changing the store", func() error { return s.change(app, "Add", addToken(app, "fourth")) })
}

func TestAdoptBeginsAboveTheEpochThatIsNamed(t *testing.T) {
	s := newSystem(t)
	plan := check.Must(s.tools.PlanAdoption(t.Context(), 6))(t)
	if err := s.tools.Adopt(t.Context(), plan); err != nil || plan.Epochs != [2]uint64{7, 7} {
		t.Fatalf("%+v, %v", plan, err)
	}
	s.wantClean()
}

// TestAdoptOfPartitionsThatAreGone: the plan names missing partitions, and they are empty afterwards.
func TestAdoptOfPartitionsThatAreGone(t *testing.T) {
	s := newSystem(t)
	keys := record.KeysOf(2)
	s.client.Del(t.Context(), keys.Head, keys.Policies, keys.Log, keys.Audit)
	s.report("validator-1", map[int]record.Cursor{2: {Epoch: 1, Revision: 6, Tag: record.NewTag()}})
	plan := check.Must(s.tools.PlanAdoption(t.Context(), 0))(t)
	if !slices.Equal(plan.Missing, []int{2}) || len(plan.Losses) != 1 ||
		!strings.Contains(plan.Losses[0].String(), "partition 2: all of it is gone") {
		t.Errorf("%+v", plan)
	}
	if err := s.tools.Adopt(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	if v := s.wantClean(); v.Totals.Apps != 3*(partitions-1) {
		t.Errorf("%+v", v)
	}
	// A partition that does not verify cannot be adopted.
	s.client.Set(t.Context(), keys.Head, "x", 0)
	if _, err := s.tools.PlanAdoption(t.Context(), 0); err == nil ||
		!strings.Contains(err.Error(), keys.Head+" does not verify") {
		t.Error(err)
	}
}
