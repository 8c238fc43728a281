package record_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/secret"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

const (
	storeID = "0123456789abcdef0123456789abcdef"
	// requestKey is the key of request results.
	requestKey = "cs:{cs05}:request:0123456789abcdef0123456789abcdef"
)

// fixedRing is the same in every process, so that processes of the fuzzer can open each other's findings.
func fixedRing(tb testing.TB) *keyring.Ring {
	tb.Helper()
	data, err := json.Marshal(map[string]any{
		"current": "new", "keys": map[string][]byte{
			"new": make([]byte, keyring.KeySize),
			"old": []byte("0123456789abcdef0123456789abcdef"),
		},
	})
	if err != nil {
		tb.Fatal(err)
	}
	ring, err := keyring.Parse(data)
	if err != nil {
		tb.Fatal(err)
	}
	return ring
}

func newCodec(tb testing.TB) *record.Codec {
	tb.Helper()
	return record.NewCodec(fixedRing(tb), record.Meta{StoreID: storeID, Partitions: 64})
}

// appIn returns an id of the nth app of a partition.
func appIn(c *record.Codec, partition, n int) string {
	for i := 0; ; i++ {
		if id := fmt.Sprintf("app%d", i); c.PartitionOf(id) == partition {
			if n == 0 {
				return id
			}
			n--
		}
	}
}

// The generators make whatever the types can hold and the rules allow.
var (
	tags = rapid.Custom(func(t *rapid.T) (tag record.Tag) {
		copy(tag[:], rapid.SliceOfN(rapid.Byte(), len(tag), len(tag)).Draw(t, "tag"))
		return tag
	})
	cursors = rapid.Custom(func(t *rapid.T) record.Cursor {
		return record.Cursor{
			Epoch:    rapid.Uint64Range(1, record.MaxPosition).Draw(t, "epoch"),
			Revision: rapid.Uint64Max(record.MaxPosition).Draw(t, "revision"), Tag: tags.Draw(t, "tag"),
		}
	})
	appIDs    = rapid.StringMatching(`[A-Za-z0-9_-]{1,64}`)
	texts     = rapid.StringN(0, 20, -1)
	blobs     = rapid.SliceOfN(rapid.Byte(), 0, 40)
	scopeSets = rapid.Map(rapid.Uint64(), func(bits uint64) policy.ScopeSet { return policy.ScopeSet(bits &^ 1) })

	enforcements = rapid.Custom(func(t *rapid.T) policy.Enforcement {
		return policy.Enforcement{
			Scopes: scopeSets.Draw(t, "scopes"), TrialEndMillis: rapid.Int64().Draw(t, "trial end"),
			After: scopeSets.Draw(t, "after"),
		}
	})
	// tokenIDs are few, so that documents that are made apart share some.
	tokenIDs = rapid.StringMatching(`tok_[a-h]`)
)

// token returns any token. Its digest is one of few.
func token(t *rapid.T, id string) record.Token {
	millis := func(label string) int64 { return rapid.Int64().Draw(t, label) }
	text := func(label string) string { return texts.Draw(t, label) }
	return record.Token{
		Token: policy.Token{
			ID: id, Digest: secret.DigestOf(rapid.StringMatching(`[a-p]`).Draw(t, "secret")), Scopes: scopeSets.Draw(t, "scopes"),
			State:        rapid.SampledFrom([]policy.State{policy.Active, policy.Disabled, policy.Revoked}).Draw(t, "state"),
			ExpireMillis: millis("expire"), Imported: rapid.Bool().Draw(t, "imported"),
		},
		Name: text("name"), Note: text("note"), Hint: text("hint"), CreatedBy: text("by"),
		CreateMillis: millis("create"), UpdateMillis: millis("update"), RevokeMillis: millis("revoke"),
		OwnExpireMillis: millis("own expiry"), OverlapEndMillis: millis("overlap"), UntilUnusedMillis: millis("until unused"),
		PredecessorID: text("predecessor"), SuccessorID: text("successor"), TouchedRevision: rapid.Uint64().Draw(t, "touched"),
	}
}

// dropDuplicates makes a list of tokens valid for a policy: of tokens with equal ids or digests the first one
// stays.
func dropDuplicates(tokens []record.Token) []record.Token {
	ids, digests := map[string]bool{}, map[secret.Digest]bool{}
	return slices.DeleteFunc(tokens, func(t record.Token) bool {
		gone := ids[t.ID] || digests[t.Digest]
		if !gone {
			ids[t.ID], digests[t.Digest] = true, true
		}
		return gone
	})
}

func document(t *rapid.T, appID string) *record.Document {
	tokens := []record.Token{}
	for range rapid.IntRange(0, 6).Draw(t, "tokens") {
		tokens = append(tokens, token(t, tokenIDs.Draw(t, "id")))
	}
	var memory policy.Memory
	for range rapid.IntRange(0, 3).Draw(t, "remembered") {
		memory = memory.With(token(t, "tok_gone").Token)
	}
	return &record.Document{
		AppID: appID, Cursor: cursors.Draw(t, "cursor"), Enforcement: enforcements.Draw(t, "enforcement"),
		Tokens: dropDuplicates(tokens), Memory: memory, Deleted: rapid.Bool().Draw(t, "deleted"),
		CreateMillis: rapid.Int64().Draw(t, "create"), UpdateMillis: rapid.Int64().Draw(t, "update"),
	}
}

// sealedRecord is one record of each kind, and how to open it.
type sealedRecord struct {
	kind      string
	partition int
	raw       []byte
}

// opens reports whether a raw record opens as a kind of record of a partition. App is the id of a policy.
func opens(c *record.Codec, ring *keyring.Ring, kind string, partition int, app string, raw []byte) error {
	var err error
	switch kind {
	case "meta":
		_, err = record.OpenMeta(ring, raw)
	case "head":
		_, err = c.OpenHead(partition, raw)
	case "policy":
		if _, err = c.OpenDocument(app, raw); err == nil {
			_, _, err = c.OpenPolicy(app, raw)
		}
	case "link":
		_, err = c.OpenLink(partition, raw)
	case "audit":
		_, _, err = c.OpenAudit(partition, record.AuditTail{}, raw)
	case "request":
		_, err = c.OpenRequest(partition, requestKey, raw)
	default:
		panic(kind)
	}
	return err
}

// oneOfEach returns a record of every kind, all of one app.
func oneOfEach(tb testing.TB, c *record.Codec, app string) []sealedRecord {
	tb.Helper()
	ring, partition := fixedRing(tb), c.PartitionOf(app)
	must := func(raw []byte, err error) []byte {
		if err != nil {
			tb.Fatal(err)
		}
		return raw
	}
	d := &record.Document{
		AppID: app, Cursor: record.Cursor{Epoch: 1, Revision: 7, Tag: record.Tag{1}},
		Enforcement: policy.Enforcement{Scopes: policy.ScopesOf(1)},
		Tokens: []record.Token{{
			Token: policy.Token{ID: "tok_a", Digest: secret.DigestOf("a"), State: policy.Active, Scopes: policy.ScopesOf(1, 2)},
			Name:  "name", CreatedBy: "somebody",
		}},
	}
	audit, _, err := c.SealAudit(partition, record.AuditTail{}, &countersignv1.AuditEvent{AppId: app})
	return []sealedRecord{
		{"meta", 0, must(record.SealMeta(ring, record.Meta{StoreID: storeID, Partitions: 64, CreateTime: time.Unix(1, 0)}))},
		{"head", partition, must(c.SealHead(partition, record.Head{
			Cursor: d.Cursor, Policies: 3,
			State: record.SealedSum{MAC: [32]byte{9}},
		}))},
		{"policy", partition, must(c.SealDocument(d))},
		{"link", partition, must(c.SealLink(record.LinkBetween(record.Tag{2}, nil, d)))},
		{"audit", partition, must(audit, err)},
		{"request", partition, must(c.SealRequest(partition, record.RequestResult{
			Digest:   []byte("digest"),
			Response: []byte("response"), Key: requestKey,
		}))},
	}
}

// payloadOf returns the payload of a sealed record.
func payloadOf(tb testing.TB, raw []byte) []byte {
	tb.Helper()
	var sealed countersignv1.SealedRecord
	if err := proto.Unmarshal(raw, &sealed); err != nil {
		tb.Fatal(err)
	}
	return sealed.GetPayload()
}
