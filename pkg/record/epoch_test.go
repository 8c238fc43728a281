package record_test

import (
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/countersign/countersign/pkg/record"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

func TestEpochStartsComeBackAsTheyWere(t *testing.T) {
	c := newCodec(t)
	causes := make([]countersignv1.EpochCause, 0, len(countersignv1.EpochCause_name))
	for number := range countersignv1.EpochCause_name {
		causes = append(causes, countersignv1.EpochCause(number))
	}
	rapid.Check(t, func(t *rapid.T) {
		partition := rapid.IntRange(0, c.Partitions()-1).Draw(t, "partition")
		want := record.EpochStart{
			Cursor: cursors.Draw(t, "cursor"), Cause: rapid.SampledFrom(causes).Draw(t, "cause"),
			CommitMillis: rapid.Int64().Draw(t, "time"),
			Settled:      rapid.SliceOfN(tags, 0, 3).Draw(t, "settled"),
		}
		if rapid.Bool().Draw(t, "there was something before") {
			want.Previous = cursors.Draw(t, "previous")
		}
		raw, err := c.SealEpoch(partition, want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.OpenEpoch(partition, raw)
		if len(got.Settled) == 0 && len(want.Settled) == 0 {
			got.Settled, want.Settled = nil, nil
		}
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v, %v; want %+v", got, err, want)
		}
		// Only what an authority has healed need not be waited for.
		if healed := want.Cause == countersignv1.EpochCause_EPOCH_CAUSE_HEALED; got.Healed() != healed {
			t.Fatalf("%v: healed %v", got.Cause, got.Healed())
		}
		if other, err := c.OpenEpoch((partition+1)%c.Partitions(), raw); err == nil {
			t.Fatalf("another partition takes it: %+v", other)
		}
	})
}
