package tools

import (
	"strings"
	"testing"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/testkit/check"
)

// TestOperatorsEpochsBeginAboveTheFloor: restorations and adoptions begin above an authority's floor,
// whatever the store, the file and the reports say. The floor of another store does not count.
func TestOperatorsEpochsBeginAboveTheFloor(t *testing.T) {
	s := newSystem(t)
	path := s.backup()
	floor := record.Floor{StoreID: s.codec.StoreID(), Cursors: make([]record.Cursor, partitions)}
	floor.Cursors[2] = record.Cursor{Epoch: 9, Revision: 3_000_000_000, Tag: record.NewTag()}
	other := floor
	other.StoreID = "another"
	s.tools.UseFloor(other)
	if look := check.Must(s.tools.Status(t.Context()))(t); len(look.BelowFloor) > 0 ||
		!strings.Contains(strings.Join(look.Warnings, "\n"), "of another store, another") {
		t.Errorf("%+v", look)
	}
	if done := check.Must(s.tools.Restore(t.Context(), path, RestoreOptions{Replace: true}))(t); done.Epochs != [2]uint64{
		2,
		2,
	} {
		t.Errorf("%+v", done)
	}
	s.tools.UseFloor(floor)
	look := check.Must(s.tools.Status(t.Context()))(t)
	if len(look.BelowFloor) != 1 || !has(look.BelowFloor, record.KeysOf(2).Head, "an authority has seen 9/3000000000") {
		t.Errorf("%+v", look.BelowFloor)
	}
	done := check.Must(s.tools.Restore(t.Context(), path, RestoreOptions{Replace: true}))(t)
	if done.Epochs != [2]uint64{3, 10} || done.Starts[2].Revision != 4_000_000_000 {
		t.Errorf("%+v", done)
	}
	if look := check.Must(s.tools.Status(t.Context()))(t); len(look.BelowFloor) > 0 {
		t.Errorf("after the restoration: %+v", look.BelowFloor)
	}
	floor.Cursors[1] = record.Cursor{Epoch: 20, Revision: 1, Tag: record.NewTag()}
	s.tools.UseFloor(floor)
	plan := check.Must(s.tools.PlanAdoption(t.Context(), 0))(t)
	if err := s.tools.Adopt(t.Context(), plan); err != nil || plan.Epochs != [2]uint64{4, 21} {
		t.Errorf("%+v, %v", plan.Epochs, err)
	}
	s.wantClean()
}
