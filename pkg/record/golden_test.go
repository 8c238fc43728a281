package record_test

import (
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"reflect"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/secret"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// What stands in a Redis must be read by every later release. When a record gets another form, the file of
// a version is made, and committed, with
//
//	go test ./pkg/record -run TestRecordsOfEarlierReleasesAreRead -golden testdata/v2.json
//
// Files of earlier versions stay as they are.
var makeGolden = flag.String("golden", "", "write records as this code seals them to a `file`, unless it is there")

// goldenRecords are records of the app goldenApp, and the MACs that heads carry.
type goldenRecords struct {
	Records map[string][]byte // by kind
	// Element and State are those of Codec.Element and Codec.SealSum, as hexadecimal digits.
	Element, State string
}

const goldenApp = "golden"

// sealGolden returns records with every field of version 1 set. They must not change.
func sealGolden(t *testing.T, c *record.Codec) goldenRecords {
	t.Helper()
	at, before := record.Cursor{Epoch: 2, Revision: 1<<40 + 7, Tag: record.Tag{1, 15: 2}},
		record.Cursor{Epoch: 1, Revision: 9, Tag: record.Tag{3}}
	d := &record.Document{
		AppID: goldenApp, Cursor: at, CreateMillis: 1_700_000_000_001, UpdateMillis: 1_700_000_000_002,
		Enforcement: policy.Enforcement{
			Scopes: policy.ScopesOf(1, 3), TrialEndMillis: 1_700_000_000_003,
			After: policy.ScopesOf(2),
		},
		Tokens: []record.Token{
			{
				Token: policy.Token{
					ID: "tok_aaaaaaaaaaaaaaaa", Digest: secret.DigestOf("a"), State: policy.Active, Scopes: policy.ScopesOf(1, 3),
					ExpireMillis: 1_700_000_000_004,
				},
				Name: "näme", Note: "note", Hint: "abcdef", CreatedBy: "ada", CreateMillis: 5, UpdateMillis: 6,
				SuccessorID:     "tok_bbbbbbbbbbbbbbbb",
				TouchedRevision: 7,
			},
			{
				Token: policy.Token{ID: "tok_bbbbbbbbbbbbbbbb", Digest: secret.DigestOf("b"), State: policy.Revoked, Imported: true},
				Name:  "other", CreatedBy: "eve", CreateMillis: 8, UpdateMillis: 9, RevokeMillis: 10,
				PredecessorID:   "tok_aaaaaaaaaaaaaaaa",
				TouchedRevision: at.Revision,
			},
			{Token: policy.Token{ID: "tok_cccccccccccccccc", Digest: secret.DigestOf("c"), State: policy.Disabled}, Name: "c"},
		},
	}
	ring, partition := fixedRing(t), c.PartitionOf(goldenApp)
	g := goldenRecords{Records: map[string][]byte{}}
	keep := func(kind string, raw []byte, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(kind, err)
		}
		g.Records[kind] = raw
	}
	sealed, err := record.SealMeta(ring, record.Meta{StoreID: storeID, Partitions: 64, CreateTime: time.Unix(1, 2)})
	keep("meta", sealed, err)
	sealed, err = c.SealHead(partition, record.Head{
		Cursor: at, Policies: 3, State: record.SealedSum{Key: ring.Current(), MAC: [32]byte{9}},
		Audit: record.AuditTail{Sequence: 11, Chain: []byte("chain")}, Forks: []record.Cursor{before},
	})
	keep("head", sealed, err)
	sealed, err = c.SealDocument(d)
	keep("policy", sealed, err)
	sealed, err = c.SealLink(record.LinkBetween(before.Tag, nil, d))
	keep("link", sealed, err)
	sealed, err = c.SealEpoch(partition, record.EpochStart{
		Cursor: at, Previous: before, Cause: countersignv1.EpochCause_EPOCH_CAUSE_HEALED, Settled: []record.Tag{{4}},
		CommitMillis: 12,
	})
	keep("epoch", sealed, err)
	sealed, _, err = c.SealAudit(partition, record.AuditTail{}, &countersignv1.AuditEvent{
		EventTime: timestamppb.New(time.Unix(13, 14)), Identity: "ada", Peer: "127.0.0.1:1", Method: "CreateToken",
		AppId: goldenApp, Revision: 7,
		RequestId: "r1", AppAfter: &countersignv1.App{AppId: goldenApp},
		Tokens: []*countersignv1.TokenChange{{After: &countersignv1.Token{TokenId: "tok"}}},
	})
	keep("audit", sealed, err)
	sealed, err = c.SealRequest(partition, record.RequestResult{
		Digest: []byte("digest"), Response: []byte("response"),
		Key: requestKey, CreateMillis: 15,
	})
	keep("request", sealed, err)
	state := c.SealSum(partition, record.SumOf([4]uint64{1, 2, 3, 1 << 63}))
	g.Element, g.State = fmt.Sprintf("%016x", c.Add(record.Sum{}, partition, goldenApp, 1<<40+7).Words()),
		hex.EncodeToString(state.MAC[:])
	return g
}

// openGolden returns what a record holds.
func openGolden(t *testing.T, c *record.Codec, ring *keyring.Ring, kind string, raw []byte) (what any) {
	t.Helper()
	var err error
	partition := c.PartitionOf(goldenApp)
	switch kind {
	case "meta":
		what, err = record.OpenMeta(ring, raw)
	case "head":
		what, err = c.OpenHead(partition, raw)
	case "policy":
		what, err = c.OpenDocument(goldenApp, raw)
	case "link":
		what, err = c.OpenLink(partition, raw)
	case "epoch":
		what, err = c.OpenEpoch(partition, raw)
	case "audit":
		event, tail, failed := c.OpenAudit(partition, record.AuditTail{}, raw)
		data, _ := proto.MarshalOptions{Deterministic: true}.Marshal(event)
		what, err = []any{string(data), tail}, failed
	case "request":
		what, err = c.OpenRequest(partition, requestKey, raw)
	default:
		t.Fatalf("there is no record of kind %q", kind)
	}
	if err != nil {
		t.Errorf("%s: %v", kind, err)
	}
	return what
}

// TestRecordsOfEarlierReleasesAreRead: a new release reads every field of every record of an older store, and
// its heads add up. Tests that write and read with one version of the code cannot show this.
func TestRecordsOfEarlierReleasesAreRead(t *testing.T) {
	c, ring := newCodec(t), fixedRing(t)
	today := sealGolden(t, c)
	if _, err := os.Stat(*makeGolden); *makeGolden != "" && err != nil {
		data, err := json.MarshalIndent(today, "", "  ")
		if err == nil {
			err = os.WriteFile(*makeGolden, append(data, '\n'), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile("testdata/v1.json")
	if err != nil {
		t.Fatal(err)
	}
	var old goldenRecords
	if err := json.Unmarshal(data, &old); err != nil {
		t.Fatal(err)
	}
	for kind, raw := range today.Records {
		if was, is := openGolden(t, c, ring, kind, old.Records[kind]),
			openGolden(t, c, ring, kind, raw); !reflect.DeepEqual(was, is) {
			t.Errorf("%s: it reads as\n%+v\nwant\n%+v", kind, was, is)
		}
	}
	if old.Element != today.Element || old.State != today.State {
		t.Errorf("what heads carry was %s and %s, it is %s and %s: no store of earlier releases adds up", old.Element,
			old.State, today.Element, today.State)
	}
}
