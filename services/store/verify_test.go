package store_test

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/testkit/check"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// history is the content of a partition.
type history struct {
	head      record.Head
	links     []*record.Link
	starts    []record.EpochStart
	events    []*countersignv1.AuditEvent
	documents map[string]*record.Document
}

// verify reads a partition and proves that its log, documents, audit trail and head agree from the first
// change on (B23).
func (s *system) verify(t testing.TB, partition int) history {
	t.Helper()
	ctx := t.Context()
	keys := record.KeysOf(partition)
	h := history{documents: map[string]*record.Document{}}
	h.head = check.Must(s.codec.OpenHead(partition, check.Must(s.client.Get(ctx, keys.Head).Bytes())(t)))(t)

	policies := map[string]*policy.Policy{}
	revisions := map[string]record.Cursor{}
	var at record.Cursor
	var forks []record.Cursor
	audited := map[uint64]string{}
	for i, entry := range check.Must(s.client.XRange(ctx, keys.Log, "-", "+").Result())(t) {
		if raw, isStart := entry.Values[redisfeed.EpochField].(string); isStart {
			start := check.Must(s.codec.OpenEpoch(partition, []byte(raw)))(t)
			if start.Previous != at || start.Epoch <= at.Epoch || start.Revision <= at.Revision ||
				entry.ID != fmt.Sprintf("%d-0", start.Revision) {
				t.Fatalf("entry %d of the log has the id %s and begins an epoch at %s behind %s, it is behind %s", i, entry.ID,
					start.Cursor, start.Previous, at)
			}
			if at != (record.Cursor{}) {
				forks = append(forks, at)
			}
			h.starts, at = append(h.starts, start), start.Cursor
			audited[start.Revision] = ""
			continue
		}
		link := check.Must(s.codec.OpenLink(partition, []byte(entry.Values[redisfeed.LinkField].(string))))(t)
		revision := at.Revision + 1
		if link.Revision != revision || entry.ID != fmt.Sprintf("%d-0", revision) || i > 0 && link.Epoch != at.Epoch {
			t.Fatalf("entry %d of the log has the id %s and is %s", i, entry.ID, link.Cursor)
		}
		if i > 0 && link.PreviousTag != at.Tag {
			t.Fatalf("revision %d does not follow the one before", revision)
		}
		if i > 0 && len(h.starts) > 0 && at == h.starts[len(h.starts)-1].Cursor {
			delete(audited, at.Revision) // it has changes of its own, if they were made with it
		}
		audited[revision] = link.AppID
		if link.PreviousAppRevision != revisions[link.AppID].Revision {
			t.Fatalf("revision %d was made from revision %d of %s, want %d", revision, link.PreviousAppRevision, link.AppID,
				revisions[link.AppID].Revision)
		}
		policies[link.AppID] = check.Must(link.Apply(policies[link.AppID]))(t)
		revisions[link.AppID] = link.Cursor
		h.links, at = append(h.links, link), link.Cursor
	}
	if at != (record.Cursor{}) && at != h.head.Cursor || at == (record.Cursor{}) && h.head.Revision != 0 {
		t.Fatalf("the head is at %s, the log ends with %s", h.head.Cursor, at)
	}
	if got := h.head.Forks; len(got) < len(forks) || !slices.Equal(got[len(got)-len(forks):], forks) {
		t.Fatalf("the head names the forks %v, the log %v", got, forks)
	}

	var tail record.AuditTail
	for i, entry := range check.Must(s.client.XRange(ctx, keys.Audit, "-", "+").Result())(t) {
		event, next, err := s.codec.OpenAudit(partition, tail, []byte(entry.Values[redisfeed.AuditField].(string)))
		if err != nil {
			t.Fatalf("audit row %d: %v", i+1, err)
		}
		app, made := audited[event.GetRevision()]
		delete(audited, event.GetRevision())
		if !made && event.GetAppId() != "" || event.GetAppId() != app || entry.ID != fmt.Sprintf("%d-0", i+1) {
			t.Fatalf("audit row %d has the id %s and is %v", i+1, entry.ID, event)
		}
		h.events, tail = append(h.events, event), next
	}
	if !reflect.DeepEqual(tail, h.head.Audit) || len(audited) > 0 {
		t.Fatalf("the audit trail has %d rows for %d changes and ends with %+v, the head says %+v", len(h.events), len(h.links),
			tail, h.head.Audit)
	}

	sum := h.head.State.EmptySum()
	for appID, raw := range check.Must(s.client.HGetAll(ctx, keys.Policies).Result())(t) {
		d := check.Must(s.codec.OpenDocument(appID, []byte(raw)))(t)
		if d.Cursor != revisions[appID] {
			t.Errorf("the document of %s is of %s, the log says %s", appID, d.Cursor, revisions[appID])
		}
		if got := check.Must(d.Policy())(t); !reflect.DeepEqual(got, policies[appID]) {
			t.Errorf("the document of %s decides by %+v, the log by %+v", appID, got, policies[appID])
		}
		h.documents[appID] = d
		sum = s.codec.Add(sum, partition, appID, d.Revision)
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
