package record_test

import (
	"errors"
	"testing"

	"github.com/countersign/countersign/pkg/record"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// sealedEntries returns a link and the start of an epoch of one partition, as its log would hold them, and
// what each opens as.
func sealedEntries(tb testing.TB, c *record.Codec, app string) (raw [2]record.RawEntry, want [2]record.Entry) {
	tb.Helper()
	partition := c.PartitionOf(app)
	at := record.Cursor{Epoch: 1, Revision: 7, Tag: record.Tag{7}}
	link, err := c.SealLink(record.LinkBetween(record.Tag{6}, nil, &record.Document{AppID: app, Cursor: at}))
	if err != nil {
		tb.Fatal(err)
	}
	start := record.EpochStart{
		Cursor: record.Cursor{Epoch: 2, Revision: 9, Tag: record.Tag{9}}, Previous: at,
		Cause: countersignv1.EpochCause_EPOCH_CAUSE_HEALED, Settled: []record.Tag{{8}},
	}
	begun, err := c.SealEpoch(partition, start)
	if err != nil {
		tb.Fatal(err)
	}
	raw = [2]record.RawEntry{{Revision: 7, Data: link}, {Revision: 9, Data: begun, EpochStart: true}}
	want = [2]record.Entry{
		{Cursor: at, Previous: record.Cursor{Epoch: 1, Revision: 6, Tag: record.Tag{6}}},
		{Cursor: start.Cursor, Previous: at, Cause: start.Cause, Settled: start.Settled},
	}
	return raw, want
}

// sameEntry compares entries but for the change itself, and reports whether each has one.
func sameEntry(a, b record.Entry) bool {
	return a.Cursor == b.Cursor && a.Previous == b.Previous && a.Cause == b.Cause && len(a.Settled) == len(b.Settled)
}

func TestEntriesOpenAsWhatTheyAre(t *testing.T) {
	c, app := newCodec(t), "app1"
	raw, want := sealedEntries(t, c, app)
	for i, e := range raw {
		got, err := c.OpenEntry(c.PartitionOf(app), e)
		if err != nil || !sameEntry(got, want[i]) || (got.Link == nil) != e.EpochStart {
			t.Errorf("entry %d: %+v, %v; want %+v", i, got, err, want[i])
		}
		unlabelled, err := c.OpenUnlabelled(c.PartitionOf(app), e.Data)
		if err != nil || !sameEntry(unlabelled, want[i]) || (unlabelled.Link == nil) != e.EpochStart {
			t.Errorf("entry %d without a label: %+v, %v; want %+v", i, unlabelled, err, want[i])
		}
		if back := got.Raw(e.Data); back.Revision != e.Revision || back.EpochStart != e.EpochStart || &back.Data[0] != &e.Data[0] {
			t.Errorf("entry %d: raw again %+v, want %+v", i, back, e)
		}
	}
	if got, err := c.OpenEntry(c.PartitionOf(app), raw[0]); err != nil || got.Link.AppID != app {
		t.Errorf("link %+v, %v", got.Link, err)
	}
}

func TestEntriesDoNotOpenAsAnythingElse(t *testing.T) {
	c, app := newCodec(t), "app1"
	raw, want := sealedEntries(t, c, app)
	partition := c.PartitionOf(app)
	for i, e := range raw {
		e.EpochStart = !e.EpochStart
		if got, err := c.OpenEntry(partition, e); err == nil || got.Cursor != (record.Cursor{}) {
			t.Errorf("entry %d as one of the other kind: %+v, %v", i, got, err)
		}
		e = raw[i]
		if got, err := c.OpenEntry((partition+1)%c.Partitions(), e); err == nil || got.Cursor != (record.Cursor{}) {
			t.Errorf("entry %d in another partition: %+v, %v", i, got, err)
		}
		if got, err := c.OpenUnlabelled((partition+1)%c.Partitions(), e.Data); !refusal(err) || got.Cursor != (record.Cursor{}) {
			t.Errorf("entry %d in another partition, without a label: %+v, %v", i, got, err)
		}
		e.Revision++
		if got, err := c.OpenEntry(partition, e); !errors.Is(err, record.ErrMisplaced) || !sameEntry(got, want[i]) {
			t.Errorf("entry %d under another revision: %+v, %v; want ErrMisplaced", i, got, err)
		}
	}
}

func TestOnlyTheStartOfAnEpochBeginsOnNothing(t *testing.T) {
	at := func(epoch, revision uint64) record.Cursor { return record.Cursor{Epoch: epoch, Revision: revision} }
	for name, tt := range map[string]struct {
		entry record.Entry
		want  bool
	}{
		"after a wipe":         {record.Entry{Cursor: at(2, 9)}, true},
		"on a new store":       {record.Entry{Cursor: at(2, 1), Previous: at(1, 0)}, true},
		"on a store with data": {record.Entry{Cursor: at(2, 9), Previous: at(1, 8)}, false},
		"the first change":     {record.Entry{Cursor: at(1, 1), Previous: at(1, 0), Link: &record.Link{}}, false},
	} {
		if got := tt.entry.OnNothing(); got != tt.want {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}

// FuzzOpenEntry gives the decoders of log entries anything, as it is and correctly sealed. What opens has
// one of the two kinds, and opens alike with and without its label.
func FuzzOpenEntry(f *testing.F) {
	c, app := newCodec(f), "app1"
	partition := c.PartitionOf(app)
	raw, _ := sealedEntries(f, c, app)
	for _, e := range raw {
		f.Add(e.Data, false, e.EpochStart)
		f.Add(payloadOf(f, e.Data), true, e.EpochStart)
	}
	f.Fuzz(func(t *testing.T, data []byte, seal, start bool) {
		if seal && start {
			data = c.SealRaw("epoch", partition, data)
		} else if seal {
			data = c.SealRaw("link", partition, data)
		}
		e, err := c.OpenUnlabelled(partition, data)
		if err != nil {
			if !refusal(err) || e.Cursor != (record.Cursor{}) {
				t.Fatalf("refused with %v, entry %+v", err, e)
			}
			return
		}
		if !e.Valid() || e.Link != nil && (e.Link.Cursor != e.Cursor || e.Settled != nil) || seal && start != (e.Link == nil) {
			t.Errorf("opened as %+v", e)
		}
		if labelled, err := c.OpenEntry(partition, e.Raw(data)); err != nil || !sameEntry(labelled, e) {
			t.Errorf("with its label: %+v, %v; want %+v", labelled, err, e)
		}
	})
}
