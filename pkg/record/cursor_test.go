package record_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/countersign/countersign/pkg/record"
)

// TestCursorsAreOrdered: by epoch, then by revision, whatever the tag.
func TestCursorsAreOrdered(t *testing.T) {
	few := rapid.Custom(func(t *rapid.T) record.Cursor {
		return record.Cursor{
			Epoch: rapid.Uint64Range(1, 3).Draw(t, "epoch"), Revision: rapid.Uint64Max(3).Draw(t, "revision"),
			Tag: record.Tag{rapid.ByteMax(1).Draw(t, "tag")},
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := few.Draw(t, "a"), few.Draw(t, "b")
		position := func(c record.Cursor) uint64 { return c.Epoch<<8 + c.Revision }
		want := 0
		switch {
		case position(a) < position(b):
			want = -1
		case position(a) > position(b):
			want = 1
		}
		if got := a.Compare(b); got != want || a.Before(b) != (want < 0) || a.Conflicts(b) != (want == 0 && a.Tag != b.Tag) {
			t.Fatalf("%s and %s: compare %d, before %v, conflicts %v", a, b, got, a.Before(b), a.Conflicts(b))
		}
		top := record.Highest(a, b)
		if top.Epoch != max(a.Epoch, b.Epoch) || top.Revision != max(a.Revision, b.Revision) || top.Tag != (record.Tag{}) {
			t.Fatalf("highest of %s and %s: %s", a, b, top)
		}
	})
}
