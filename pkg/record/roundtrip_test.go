package record_test

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"github.com/countersign/countersign/pkg/record"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

func TestHeadsComeBackAsTheyWere(t *testing.T) {
	c := newCodec(t)
	rapid.Check(t, func(t *rapid.T) {
		partition := rapid.IntRange(0, 255).Draw(t, "partition")
		want := record.Head{
			Unhealed: rapid.Bool().Draw(t, "unhealed"),
			Cursor:   cursors.Draw(t, "cursor"), Policies: rapid.Uint64().Draw(t, "policies"),
			State: record.SealedSum{
				Key: rapid.SampledFrom([]string{"new", "old"}).Draw(t, "key"),
				MAC: [32]byte(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "state")),
			},
			Audit: record.AuditTail{Sequence: rapid.Uint64Max(record.MaxPosition).Draw(t, "sequence"), Chain: blobs.Draw(t, "chain")},
		}
		raw, err := c.SealHead(partition, want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.OpenHead(partition, raw)
		if err != nil || !bytes.Equal(got.Audit.Chain, want.Audit.Chain) {
			t.Fatalf("%+v, %v", got, err)
		}
		got.Audit.Chain, want.Audit.Chain = nil, nil
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v, want %+v", got, want)
		}
	})
}

func TestDocumentsComeBackAsTheyWere(t *testing.T) {
	c := newCodec(t)
	rapid.Check(t, func(t *rapid.T) {
		want := document(t, appIDs.Draw(t, "app"))
		raw, err := c.SealDocument(want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.OpenDocument(want.AppID, raw)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v, %v; want %+v", got, err, want)
		}
		// What a validator reads of the document is what the authority's copy decides by.
		decides, cursor, err := c.OpenPolicy(want.AppID, raw)
		if err != nil || cursor != want.Cursor {
			t.Fatalf("policy at %v, %v; want %v", cursor, err, want.Cursor)
		}
		whole, err := want.Policy()
		if err != nil || !reflect.DeepEqual(decides, whole) {
			t.Fatalf("policy %+v, want %+v (%v)", decides, whole, err)
		}
		if revision, ok := record.ClaimedRevision(raw); revision != want.Revision || ok != (want.Revision != 0) {
			t.Fatalf("claims revision %d (%v), has %d", revision, ok, want.Revision)
		}
	})
}

func TestLinksComeBackAsTheyWere(t *testing.T) {
	c := newCodec(t)
	rapid.Check(t, func(t *rapid.T) {
		app := appIDs.Draw(t, "app")
		before, after := document(t, app), document(t, app)
		if rapid.Bool().Draw(t, "new app") {
			before = nil
		}
		want := record.LinkBetween(tags.Draw(t, "previous"), before, after)
		raw, err := c.SealLink(want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.OpenLink(c.PartitionOf(app), raw)
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Upserts) == 0 && len(want.Upserts) == 0 {
			got.Upserts, want.Upserts = nil, nil
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v, want %+v", got, want)
		}
	})
}

func TestRequestResultsComeBackAsTheyWere(t *testing.T) {
	c := newCodec(t)
	rapid.Check(t, func(t *rapid.T) {
		partition := rapid.IntRange(0, 255).Draw(t, "partition")
		want := record.RequestResult{
			Digest: blobs.Draw(t, "digest"), Response: blobs.Draw(t, "response"),
			Key:          record.KeysOf(partition).Request("admin", "CreateToken", "app", texts.Draw(t, "id")),
			CreateMillis: rapid.Int64().Draw(t, "create"),
		}
		raw, err := c.SealRequest(partition, want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.OpenRequest(partition, want.Key, raw)
		if err != nil || !bytes.Equal(got.Digest, want.Digest) || !bytes.Equal(got.Response, want.Response) ||
			got.Key != want.Key || got.CreateMillis != want.CreateMillis {
			t.Fatalf("%+v, %v; want %+v", got, err, want)
		}
		if other, err := c.OpenRequest(partition, want.Key+"0", raw); !refusal(err) {
			t.Fatalf("under another key: %+v, %v", other, err)
		}
	})
}

func TestMetasComeBackAsTheyWere(t *testing.T) {
	ring := fixedRing(t)
	rapid.Check(t, func(t *rapid.T) {
		want := record.Meta{
			StoreID:       rapid.StringMatching(`[0-9a-f]{32}`).Draw(t, "id"),
			Partitions:    rapid.IntRange(1, record.MaxPartitions).Draw(t, "partitions"),
			CreateTime:    time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "seconds"), rapid.Int64Range(0, 1e9-1).Draw(t, "nanos")),
			MembersListed: rapid.Bool().Draw(t, "listed"),
		}
		raw, err := record.SealMeta(ring, want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := record.OpenMeta(ring, raw)
		if err != nil || got.StoreID != want.StoreID || got.Partitions != want.Partitions ||
			!got.CreateTime.Equal(want.CreateTime) || got.MembersListed != want.MembersListed {
			t.Fatalf("%+v, %v; want %+v", got, err, want)
		}
	})
}

func TestAuditRowsComeBackAsTheyWere(t *testing.T) {
	c := newCodec(t)
	rapid.Check(t, func(t *rapid.T) {
		partition := rapid.IntRange(0, 255).Draw(t, "partition")
		tail := record.AuditTail{Sequence: rapid.Uint64Range(0, 1<<40).Draw(t, "sequence"), Chain: blobs.Draw(t, "chain")}
		want := &countersignv1.AuditEvent{
			EventTime: timestamppb.New(time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "time"), 0)), Identity: texts.Draw(t, "identity"),
			Method: texts.Draw(t, "method"), AppId: appIDs.Draw(t, "app"), Revision: rapid.Uint64().Draw(t, "revision"),
		}
		raw, sealed, err := c.SealAudit(partition, tail, want)
		if err != nil {
			t.Fatal(err)
		}
		got, opened, err := c.OpenAudit(partition, tail, raw)
		if err != nil || !proto.Equal(got, want) || !reflect.DeepEqual(opened, sealed) || sealed.Sequence != tail.Sequence+1 {
			t.Fatalf("%v at %+v, %v; want %v at %+v", got, opened, err, want, sealed)
		}
	})
}

func TestPositionsComeBackAsTheyWere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := record.Position{
			StoreID:   rapid.StringMatching(`[0-9a-f]{32}`).Draw(t, "id"),
			Partition: rapid.IntRange(0, record.MaxPartitions-1).Draw(t, "partition"),
			Cursor:    cursors.Draw(t, "cursor"),
		}
		token := record.EncodePosition(want)
		got, err := record.DecodePosition(token)
		if err != nil || got != want {
			t.Fatalf("%+v, %v; want %+v", got, err, want)
		}
		if len(token) > record.MaxPositionLength || strings.ContainsAny(token, "+/= \n") {
			t.Fatalf("token %q is too long, or cannot stand in a URL", token)
		}
	})
}
