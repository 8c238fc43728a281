package record_test

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/secret"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// seeds adds raw records and payloads of every kind to the corpus, and returns the sealed payloads.
func seeds(f *testing.F, c *record.Codec, app string) (sealed [][]byte) {
	f.Helper()
	for _, r := range oneOfEach(f, c, app) {
		payload := payloadOf(f, r.raw)
		sealed = append(sealed, payload)
		f.Add(r.raw, false)
		f.Add(payload, true)
		f.Add(payload, false)
		f.Add(append(bytes.Clone(payload), payload...), true)
	}
	token := func(id string, digest int, state countersignv1.TokenState) *countersignv1.PolicyToken {
		return &countersignv1.PolicyToken{TokenId: id, Digest: bytes.Repeat([]byte{byte(digest)}, digest), State: state}
	}
	for _, tokens := range [][]*countersignv1.PolicyToken{
		{token("a", 32, 1), token("a", 32, 1)},
		{token("a", 32, 256+1)},
		{token("a", 32, -255)},
		{token("a", 31, 1), token("b", 33, 1)},
		{token("", 32, 2)},
		{token("a", 0, 4)},
		nil,
	} {
		for _, message := range []proto.Message{
			&countersignv1.PolicyDocument{
				AppId: app, Epoch: 1, Revision: 1, Tag: make([]byte, 16),
				Policy: &countersignv1.Policy{Tokens: tokens},
			},
			&countersignv1.Link{
				AppId: app, Epoch: 1, Revision: 1, Tag: make([]byte, 16), PreviousTag: make([]byte, 16),
				Upserts: tokens,
			},
		} {
			payload, err := proto.Marshal(message)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(payload, true)
		}
	}
	return sealed
}

// checkSealed fails when a raw record opened although nobody sealed its payload.
func checkSealed(t *testing.T, raw []byte, sealed [][]byte) {
	t.Helper()
	payload := payloadOf(t, raw)
	for _, known := range sealed {
		if bytes.Equal(payload, known) {
			return
		}
	}
	t.Fatalf("opened, but was never sealed: %x", raw)
}

func checkPolicy(t *testing.T, p *policy.Policy) {
	t.Helper()
	ids, digests := map[string]bool{}, map[secret.Digest]bool{}
	for i, token := range p.Tokens() {
		if token.ID == "" || ids[token.ID] || digests[token.Digest] {
			t.Errorf("token %d: id %q or digest is missing, or not unique", i, token.ID)
		}
		if token.State != policy.Active && token.State != policy.Disabled && token.State != policy.Revoked {
			t.Errorf("token %d: state %d is not one that is stored", i, token.State)
		}
		if found := p.FindDigest(token.Digest); found == nil || *found != token {
			t.Errorf("token %d: its digest finds %+v", i, found)
		}
		ids[token.ID], digests[token.Digest] = true, true
	}
}

// FuzzOpenPolicy gives the policy decoder arbitrary bytes, raw and correctly sealed. Only sealed records
// open, and each is a policy that keeps its invariants.
func FuzzOpenPolicy(f *testing.F) {
	c, app := newCodec(f), "app1"
	known := seeds(f, c, app)
	f.Fuzz(func(t *testing.T, data []byte, seal bool) {
		raw, sealed := data, known
		if seal {
			raw, sealed = c.SealRaw("policy", c.PartitionOf(app), data), [][]byte{data}
		}
		_, _ = record.ClaimedRevision(raw)
		p, cursor, err := c.OpenPolicy(app, raw)
		whole, wholeErr := c.OpenDocument(app, raw)
		if err != nil {
			if !refusal(err) || p != nil || wholeErr == nil {
				t.Fatalf("refused with %v, policy %v, as a document %v", err, p, wholeErr)
			}
			return
		}
		checkSealed(t, raw, sealed)
		checkPolicy(t, p)
		if cursor.Epoch == 0 {
			t.Error("opened without an epoch")
		}
		if revision, _ := record.ClaimedRevision(raw); revision != cursor.Revision {
			t.Errorf("claims revision %d, has %d", revision, cursor.Revision)
		}
		if wholeErr == nil && (whole.Cursor != cursor || whole.AppID != app || len(whole.Tokens) != len(p.Tokens())) {
			t.Errorf("as a document: %+v", whole)
		}
	})
}

// FuzzOpenLink does the same with links.
func FuzzOpenLink(f *testing.F) {
	c, app := newCodec(f), "app1"
	known := seeds(f, c, app)
	before, err := policy.New(policy.Enforcement{}, []policy.Token{{
		ID: "tok_a", Digest: secret.DigestOf("a"),
		State: policy.Active,
	}}, false)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte, seal bool) {
		partition := c.PartitionOf(app)
		raw, sealed := data, known
		if seal {
			raw, sealed = c.SealRaw("link", partition, data), [][]byte{data}
		}
		link, err := c.OpenLink(partition, raw)
		if err != nil {
			if !refusal(err) || link != nil {
				t.Fatalf("refused with %v, link %v", err, link)
			}
			return
		}
		checkSealed(t, raw, sealed)
		if link.Epoch == 0 || c.PartitionOf(link.AppID) != partition {
			t.Errorf("a link of no epoch, or of another partition: %+v", link)
		}
		for _, p := range []*policy.Policy{nil, before} {
			if after, err := link.Apply(p); err == nil {
				checkPolicy(t, after)
			}
		}
	})
}

// FuzzDecodePosition decodes arbitrary text as a consistency token. A valid token survives encoding again.
func FuzzDecodePosition(f *testing.F) {
	f.Add("")
	f.Add(record.EncodePosition(record.Position{
		StoreID: storeID, Partition: 63,
		Cursor: record.Cursor{Epoch: 1, Revision: 2, Tag: record.Tag{3}},
	}))
	f.Add(record.EncodePosition(record.Position{Partition: 255, Cursor: record.Cursor{Epoch: 1<<64 - 1}}))
	f.Add("CgH_")
	f.Fuzz(func(t *testing.T, token string) {
		p, err := record.DecodePosition(token)
		if err != nil {
			if !refusal(err) || p != (record.Position{}) {
				t.Fatalf("refused with %v, position %+v", err, p)
			}
			return
		}
		if len(token) > record.MaxPositionLength || p.Partition < 0 || p.Partition >= record.MaxPartitions || p.Epoch == 0 {
			t.Errorf("%q is taken for %+v", token, p)
		}
		if again, err := record.DecodePosition(record.EncodePosition(p)); err != nil || again != p {
			t.Errorf("%+v comes back as %+v, %v", p, again, err)
		}
	})
}
