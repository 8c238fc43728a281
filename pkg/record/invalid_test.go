package record_test

import (
	"bytes"
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/countersign/countersign/pkg/record"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// sealMessage signs a message as a record of a kind.
func sealMessage(t *testing.T, c *record.Codec, kind string, partition int, m proto.Message) []byte {
	t.Helper()
	payload, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return c.SealRaw(kind, partition, payload)
}

// TestInvalidRecordsDoNotOpenAlthoughTheyAreSigned: a record of a newer or faulty authority is rejected as a
// whole and not misread.
func TestInvalidRecordsDoNotOpenAlthoughTheyAreSigned(t *testing.T) {
	c := newCodec(t)
	app := appIn(c, 5, 0)
	tag, digest := make([]byte, 16), bytes.Repeat([]byte{7}, 32)
	token := func(change func(*countersignv1.PolicyToken)) *countersignv1.PolicyToken {
		m := &countersignv1.PolicyToken{TokenId: "tok_a", Digest: digest, State: countersignv1.TokenState_TOKEN_STATE_ACTIVE}
		change(m)
		return m
	}
	other := token(func(m *countersignv1.PolicyToken) { m.TokenId, m.Digest = "tok_b", bytes.Repeat([]byte{8}, 32) })
	for name, tokens := range map[string][]*countersignv1.PolicyToken{
		"no digest":       {token(func(m *countersignv1.PolicyToken) { m.Digest = nil })},
		"short digest":    {token(func(m *countersignv1.PolicyToken) { m.Digest = digest[:31] })},
		"long digest":     {token(func(m *countersignv1.PolicyToken) { m.Digest = append(bytes.Clone(digest), 7) })},
		"no state":        {token(func(m *countersignv1.PolicyToken) { m.State = 0 })},
		"derived state":   {token(func(m *countersignv1.PolicyToken) { m.State = countersignv1.TokenState_TOKEN_STATE_EXPIRED })},
		"future state":    {token(func(m *countersignv1.PolicyToken) { m.State = 5 })},
		"state past 255":  {token(func(m *countersignv1.PolicyToken) { m.State = 256 + 1 })},
		"negative state":  {token(func(m *countersignv1.PolicyToken) { m.State = -255 })},
		"no id":           {token(func(m *countersignv1.PolicyToken) { m.TokenId = "" })},
		"one id twice":    {other, token(func(m *countersignv1.PolicyToken) { m.TokenId = "tok_b" })},
		"digest twice":    {other, token(func(m *countersignv1.PolicyToken) { m.Digest = other.GetDigest() })},
		"token of nobody": {{}},
	} {
		document := &countersignv1.PolicyDocument{
			AppId: app, Epoch: 1, Revision: 1, Tag: tag, Policy: &countersignv1.Policy{Tokens: tokens},
			Details: &countersignv1.PolicyDetails{Tokens: make([]*countersignv1.TokenDetails, len(tokens))},
		}
		for i := range tokens {
			document.Details.Tokens[i] = &countersignv1.TokenDetails{Name: "name"}
		}
		raw := sealMessage(t, c, "policy", 5, document)
		if p, _, err := c.OpenPolicy(app, raw); !errors.Is(err, record.ErrMalformed) || p != nil {
			t.Errorf("policy, %s: %+v, %v", name, p, err)
		}
		if d, err := c.OpenDocument(app, raw); !errors.Is(err, record.ErrMalformed) || d != nil {
			t.Errorf("document, %s: %+v, %v", name, d, err)
		}
		link, err := c.OpenLink(5, sealMessage(t, c, "link", 5,
			&countersignv1.Link{
				AppId: app, Epoch: 1, Revision: 1, Tag: tag, PreviousTag: tag, Upserts: tokens,
				Details: document.Details.Tokens,
			}))
		if err == nil {
			if p, err := link.Apply(nil); err == nil {
				t.Errorf("link, %s: makes %+v", name, p)
			}
		}
	}

	for name, raw := range map[string][]byte{
		"link of another partition's app": sealMessage(t, c, "link", 5,
			&countersignv1.Link{AppId: appIn(c, 6, 0), Epoch: 1, Tag: tag, PreviousTag: tag}),
		"link without an epoch": sealMessage(t, c, "link", 5,
			&countersignv1.Link{AppId: app, Tag: tag, PreviousTag: tag}),
		"link without a tag": sealMessage(t, c, "link", 5,
			&countersignv1.Link{AppId: app, Epoch: 1, PreviousTag: tag}),
		"link without a previous tag": sealMessage(t, c, "link", 5, &countersignv1.Link{AppId: app, Epoch: 1, Tag: tag}),
		"link with a long tag": sealMessage(t, c, "link", 5,
			&countersignv1.Link{AppId: app, Epoch: 1, Tag: digest, PreviousTag: tag}),
	} {
		if link, err := c.OpenLink(5, raw); !errors.Is(err, record.ErrMalformed) || link != nil {
			t.Errorf("%s: %+v, %v", name, link, err)
		}
	}
	for name, m := range map[string]*countersignv1.Head{
		"no epoch":     {Tag: tag, StateDigest: digest},
		"no tag":       {Epoch: 1, StateDigest: digest},
		"no digest":    {Epoch: 1, Tag: tag},
		"short digest": {Epoch: 1, Tag: tag, StateDigest: digest[:31]},
	} {
		if h, err := c.OpenHead(5, sealMessage(t, c, "head", 5, m)); !errors.Is(err, record.ErrMalformed) {
			t.Errorf("head, %s: %+v, %v", name, h, err)
		}
	}
	document := &countersignv1.PolicyDocument{
		AppId: app, Epoch: 1, Revision: 1, Tag: tag,
		Policy: &countersignv1.Policy{Tokens: []*countersignv1.PolicyToken{other}},
	}
	if d, err := c.OpenDocument(app, sealMessage(t, c, "policy", 5, document)); !errors.Is(err, record.ErrMalformed) {
		t.Errorf("document with a token without details: %+v, %v", d, err)
	}

	bare := record.NewCodec(fixedRing(t), record.Meta{})
	for name, m := range map[string]*countersignv1.StoreMeta{
		"no id": {Partitions: 64}, "no partitions": {StoreId: storeID},
		"too many partitions": {StoreId: storeID, Partitions: record.MaxPartitions + 1},
	} {
		if meta, err := record.OpenMeta(fixedRing(t), sealMessage(t, bare, "meta", 0, m)); !errors.Is(err, record.ErrMalformed) {
			t.Errorf("meta, %s: %+v, %v", name, meta, err)
		}
	}
}

// TestB23_EachPartOfAnAuditRowIsChecked: each part is checked by itself.
func TestB23_EachPartOfAnAuditRowIsChecked(t *testing.T) {
	c := newCodec(t)
	rows, end := trail(t, c, 3, 2)
	_, first := trail(t, c, 3, 1)
	for name, change := range map[string]func(*countersignv1.AuditRecord){
		"sequence":    func(m *countersignv1.AuditRecord) { m.Sequence++ },
		"previous":    func(m *countersignv1.AuditRecord) { m.Previous = end.Chain },
		"no previous": func(m *countersignv1.AuditRecord) { m.Previous = nil },
		"chain":       func(m *countersignv1.AuditRecord) { m.Chain = first.Chain },
		"no chain":    func(m *countersignv1.AuditRecord) { m.Chain = nil },
		"event":       func(m *countersignv1.AuditRecord) { m.Event = nil },
	} {
		var m countersignv1.AuditRecord
		if err := proto.Unmarshal(payloadOf(t, rows[1]), &m); err != nil {
			t.Fatal(err)
		}
		change(&m)
		if _, _, err := c.OpenAudit(3, first, sealMessage(t, c, "audit", 3, &m)); !errors.Is(err, record.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
