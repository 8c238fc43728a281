package faults

import (
	"testing"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/record"
)

// TestViewAddsUp: a document that is newer than its head, or missing, is half of a change.
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
			t.Errorf("a document of revision %d under a head of 2: adds up %t, want %t", revision, got, want)
		}
	}
	missing := &view{heads: map[int]record.Head{partition: head}}
	if missing.addsUp(codec) {
		t.Error("a head of one document adds up without it")
	}
}
