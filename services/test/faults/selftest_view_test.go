package faults

import (
	"testing"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/record"
)

// TestViewAddsUp: a view adds up only if its documents match the digest in the head. Here the head covers one
// document, of revision 2. The view must not add up with an older or newer document, or without it. Such a
// view holds only half of a change.
func TestViewAddsUp(t *testing.T) {
	codec := record.NewCodec(keyring.Generate(), record.Meta{StoreID: "store", Partitions: 2})
	partition := codec.PartitionOf("app")
	var sum record.Sum
	head := record.Head{Cursor: record.Cursor{Epoch: 1, Revision: 2}, Policies: 1}
	head.State = codec.SealSum(partition, codec.Add(sum, partition, "app", 2))
	for revision, want := range map[uint64]bool{1: false, 2: true, 3: false} {
		v := &view{
			heads:     map[int]record.Head{partition: head},
			documents: map[string]*record.Document{"app": {AppID: "app", Cursor: record.Cursor{Epoch: 1, Revision: revision}}},
		}
		if got := v.addsUp(codec); got != want {
			t.Errorf("document of revision %d under a head for revision 2: addsUp = %t, want %t", revision, got, want)
		}
	}
	missing := &view{heads: map[int]record.Head{partition: head}}
	if missing.addsUp(codec) {
		t.Error("head for one document, but the view has no document: addsUp = true, want false")
	}
}
