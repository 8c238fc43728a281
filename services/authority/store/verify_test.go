package store_test

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// history is what a partition says of itself.
type history struct {
	head      record.Head
	links     []*record.Link
	events    []*countersignv1.AuditEvent
	documents map[string]*record.Document
}

// verify reads a partition and proves that its log, its documents, its audit trail and its head tell the same story
// from the first change on (B23).
func (s *system) verify(t testing.TB, partition int) history {
	t.Helper()
	ctx := t.Context()
	keys := record.KeysOf(partition)
	h := history{documents: map[string]*record.Document{}}
	h.head = must(s.codec.OpenHead(partition, must(s.client.Get(ctx, keys.Head).Bytes())(t)))(t)

	policies := map[string]*policy.Policy{}
	revisions := map[string]record.Cursor{}
	var at *record.Link
	for i, entry := range must(s.client.XRange(ctx, keys.Log, "-", "+").Result())(t) {
		link := must(s.codec.OpenLink(partition, []byte(entry.Values[redisfeed.LinkField].(string))))(t)
		revision := uint64(i + 1)
		if link.Revision != revision || entry.ID != fmt.Sprintf("%d-0", revision) || link.Epoch != h.head.Epoch {
			t.Fatalf("entry %d of the log has the id %s and is %s", i, entry.ID, link.Cursor)
		}
		if at != nil && link.PreviousTag != at.Tag {
			t.Fatalf("revision %d does not follow the one before", revision)
		}
		if link.PreviousAppRevision != revisions[link.AppID].Revision {
			t.Fatalf("revision %d was made from revision %d of %s, want %d", revision, link.PreviousAppRevision, link.AppID, revisions[link.AppID].Revision)
		}
		policies[link.AppID] = must(link.Apply(policies[link.AppID]))(t)
		revisions[link.AppID] = link.Cursor
		h.links, at = append(h.links, link), link
	}
	if at != nil && at.Cursor != h.head.Cursor || at == nil && h.head.Revision != 0 {
		t.Fatalf("the head is at %s, the log ends with %+v", h.head.Cursor, at)
	}

	var tail record.AuditTail
	for i, entry := range must(s.client.XRange(ctx, keys.Audit, "-", "+").Result())(t) {
		event, next, err := s.codec.OpenAudit(partition, tail, []byte(entry.Values[redisfeed.AuditField].(string)))
		if err != nil {
			t.Fatalf("audit row %d: %v", i+1, err)
		}
		if event.GetRevision() != uint64(i+1) || entry.ID != fmt.Sprintf("%d-0", i+1) || i < len(h.links) && event.GetAppId() != h.links[i].AppID {
			t.Fatalf("audit row %d has the id %s and is %v", i+1, entry.ID, event)
		}
		h.events, tail = append(h.events, event), next
	}
	if !reflect.DeepEqual(tail, h.head.Audit) || len(h.events) != len(h.links) {
		t.Fatalf("the audit trail has %d rows for %d changes and ends with %+v, the head says %+v", len(h.events), len(h.links), tail, h.head.Audit)
	}

	var sum record.Sum
	for appID, raw := range must(s.client.HGetAll(ctx, keys.Policies).Result())(t) {
		d := must(s.codec.OpenDocument(appID, []byte(raw)))(t)
		if d.Cursor != revisions[appID] {
			t.Errorf("the document of %s is of %s, the log says %s", appID, d.Cursor, revisions[appID])
		}
		if got := must(d.Policy())(t); !reflect.DeepEqual(got, policies[appID]) {
			t.Errorf("the document of %s decides by %+v, the log by %+v", appID, got, policies[appID])
		}
		h.documents[appID] = d
		sum = sum.Plus(s.codec.Element(partition, appID, d.Revision))
	}
	if len(h.documents) != len(policies) || uint64(len(h.documents)) != h.head.Policies {
		t.Errorf("there are %d documents, %d apps in the log, %d in the head", len(h.documents), len(policies), h.head.Policies)
	}
	if s.codec.SealSum(partition, sum) != h.head.State {
		t.Error("the documents do not add up to the head's digest")
	}
	return h
}

// verifyAll verifies every partition and returns how many changes there were.
func (s *system) verifyAll(t testing.TB) (changes int) {
	t.Helper()
	for partition := range s.meta.Partitions {
		changes += len(s.verify(t, partition).links)
	}
	return changes
}
