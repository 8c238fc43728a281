package record_test

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/countersign/countersign/pkg/record"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

func TestFloorsComeBackAsTheyWere(t *testing.T) {
	ring := fixedRing(t)
	rapid.Check(t, func(t *rapid.T) {
		want := record.Floor{
			StoreID: rapid.StringMatching(`[0-9a-f]{32}`).Draw(t, "id"),
			Written: time.UnixMilli(rapid.Int64Range(0, 1<<40).Draw(t, "written")),
			Cursors: rapid.SliceOfN(rapid.OneOf(cursors, rapid.Just(record.Cursor{})), 1, record.MaxPartitions).Draw(t, "cursors"),
		}
		raw, err := record.SealFloor(ring, want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := record.OpenFloor(ring, raw)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v, %v; want %+v", got, err, want)
		}
	})
}

func TestFloorsThatAreSignedAndWrong(t *testing.T) {
	c := record.NewCodec(fixedRing(t), record.Meta{}) // a floor says by itself which store it is of
	position := func(change func(*countersignv1.Position)) *countersignv1.FloorRecord {
		p := &countersignv1.Position{Partition: 3, Epoch: 1, Revision: 1, Tag: make([]byte, 16)}
		change(p)
		return &countersignv1.FloorRecord{StoreId: "store", Partitions: 4, Positions: []*countersignv1.Position{p}}
	}
	if _, err := record.OpenFloor(fixedRing(t), sealMessage(t, c, "floor", 0,
		position(func(*countersignv1.Position) {}))); err != nil {
		t.Fatal(err)
	}
	for name, m := range map[string]*countersignv1.FloorRecord{
		"no store":           {Partitions: 4},
		"no partitions":      {StoreId: "store"},
		"many partitions":    {StoreId: "store", Partitions: record.MaxPartitions + 1},
		"beyond":             position(func(p *countersignv1.Position) { p.Partition = 4 }),
		"above the ceiling":  position(func(p *countersignv1.Position) { p.Revision = record.MaxPosition + 1 }),
		"epochs without end": position(func(p *countersignv1.Position) { p.Epoch = 1<<64 - 1 }),
		"no epoch":           position(func(p *countersignv1.Position) { p.Epoch = 0 }),
		"no tag":             position(func(p *countersignv1.Position) { p.Tag = nil }),
	} {
		if floor, err := record.OpenFloor(fixedRing(t), sealMessage(t, c, "floor", 0, m)); !errors.Is(err, record.ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, floor, err)
		}
	}
}
