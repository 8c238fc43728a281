package record

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/countersign/countersign/pkg/policy"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// Document is everything that the store knows of one app.
type Document struct {
	AppID string
	// Cursor names the change that made the document.
	Cursor
	Enforcement policy.Enforcement
	// Tokens are in order of creation.
	Tokens []Token
	// Memory holds the digests of revoked tokens that were dropped from Tokens (B08).
	Memory policy.Memory
	// Deleted documents are kept, so that the digests of their tokens stay known (B28).
	Deleted bool
	// CreateMillis and UpdateMillis are in milliseconds since the Unix epoch.
	CreateMillis, UpdateMillis int64
}

// Token is everything that the store knows of a token. Times are in milliseconds since the Unix epoch; 0 is
// none.
type Token struct {
	policy.Token
	Name, Note, Hint, CreatedBy              string
	CreateMillis, UpdateMillis, RevokeMillis int64
	// OwnExpireMillis is the token's own expiry, OverlapEndMillis the end of its rotation's overlap (B09).
	// ExpireMillis holds the earlier one, or policy.Ended (see SetEnd). Both are 0 in a record that has one
	// time for both.
	OwnExpireMillis, OverlapEndMillis int64
	// UntilUnusedMillis ends the overlap earlier, once the token has not been used for so long; 0 for not.
	UntilUnusedMillis          int64
	PredecessorID, SuccessorID string
	// TouchedRevision is the revision of the latest change of the token.
	TouchedRevision uint64
}

// SetEnd sets the token's own expiry and the end of its overlap (0 for none), and ExpireMillis from the two.
// A time that is not after nowMillis ends the token at once.
func (t *Token) SetEnd(ownExpire, overlapEnd, nowMillis int64) {
	t.OwnExpireMillis, t.OverlapEndMillis = ownExpire, overlapEnd
	t.ExpireMillis = earlier(ownExpire, overlapEnd)
	if t.ExpireMillis != 0 && t.ExpireMillis <= nowMillis {
		t.ExpireMillis = policy.Ended
	}
}

// EndMillis returns when the token ends, or ended, by itself; 0 is never. When a record tells only that the
// token was ended at once, the result is the time of the token's latest change.
func (t *Token) EndMillis() int64 {
	if t.ExpireMillis != policy.Ended {
		return t.ExpireMillis
	}
	if end := earlier(t.OwnExpireMillis, t.OverlapEndMillis); end != 0 {
		return end
	}
	return max(t.UpdateMillis, 1)
}

// earlier returns the earlier of two times; 0 stands for never.
func earlier(a, b int64) int64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// Policy returns the part of the document that decisions need.
func (d *Document) Policy() (*policy.Policy, error) {
	tokens := make([]policy.Token, len(d.Tokens))
	for i := range d.Tokens {
		tokens[i] = d.Tokens[i].Token
	}
	return policy.NewWithMemory(d.Enforcement, tokens, d.Deleted, d.Memory)
}

// MaxDocument bounds the bytes of a signed document. It is more than the rules let an app have, and less than
// a backup record or a Redis string can hold.
const MaxDocument = 64 << 20

// ErrLimit says that a record would exceed a limit of its form, or would not open again. It was not sealed.
var ErrLimit = errors.New("past a limit of the store's form")

// SealDocument signs a document, and opens the result as a check. A document that does not open could never
// be changed again, not even to revoke a token. In that case the error wraps ErrLimit and names the limit.
func (c *Codec) SealDocument(d *Document) ([]byte, error) {
	raw, err := c.sealDocument(d)
	if err != nil {
		return nil, err
	}
	if len(raw) > MaxDocument {
		return nil, fmt.Errorf("%w: the document of %s has %d bytes, want at most %d",
			ErrLimit, d.AppID, len(raw), MaxDocument)
	}
	if _, err := c.OpenDocument(d.AppID, raw); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLimit, err)
	}
	return raw, nil
}

func (c *Codec) sealDocument(d *Document) ([]byte, error) {
	m := &countersignv1.PolicyDocument{
		AppId: d.AppID, Epoch: d.Epoch, Revision: d.Revision, Tag: d.Tag[:],
		Policy: &countersignv1.Policy{
			Enforcement: enforcementToProto(d.Enforcement),
			Tokens:      make([]*countersignv1.PolicyToken, len(d.Tokens)),
			Deleted:     d.Deleted,
			Remembered:  d.Memory.Bytes(), RememberedImported: d.Memory.Imported,
		},
		Details: &countersignv1.PolicyDetails{
			CreateMillis: d.CreateMillis, UpdateMillis: d.UpdateMillis,
			Tokens: make([]*countersignv1.TokenDetails, len(d.Tokens)),
		},
	}
	for i := range d.Tokens {
		t := &d.Tokens[i]
		m.Policy.Tokens[i] = tokenToProto(&t.Token)
		m.Details.Tokens[i] = detailsToProto(t)
	}
	return c.seal(kindPolicy, c.PartitionOf(d.AppID), m)
}

// OpenDocument verifies the document that the store holds under an app's id.
func (c *Codec) OpenDocument(appID string, raw []byte) (*Document, error) {
	m, cursor, err := c.openDocument(appID, raw, whole)
	if err != nil {
		return nil, err
	}
	tokens, details := m.GetPolicy().GetTokens(), m.GetDetails().GetTokens()
	if len(tokens) != len(details) {
		return nil, fmt.Errorf("%w policy of %s: %d tokens, details of %d", ErrMalformed, appID, len(tokens), len(details))
	}
	d := &Document{
		AppID: appID, Cursor: cursor,
		Enforcement:  enforcementFromProto(m.GetPolicy().GetEnforcement()),
		Tokens:       make([]Token, len(tokens)),
		Deleted:      m.GetPolicy().GetDeleted(),
		CreateMillis: m.GetDetails().GetCreateMillis(), UpdateMillis: m.GetDetails().GetUpdateMillis(),
	}
	for i, detail := range details {
		d.Tokens[i] = detailsFromProto(detail)
		if d.Tokens[i].Token, err = tokenFromProto(tokens[i]); err != nil {
			return nil, fmt.Errorf("policy of %s: %w", appID, err)
		}
	}
	if d.Memory, err = memoryFromProto(m.GetPolicy()); err != nil {
		return nil, fmt.Errorf("%w policy of %s: %w", ErrMalformed, appID, err)
	}
	if _, err := d.Policy(); err != nil {
		return nil, fmt.Errorf("%w policy of %s: %w", ErrMalformed, appID, err)
	}
	return d, nil
}

// OpenPolicy verifies the document that the store holds under an app's id. It returns the policy and the
// document's cursor, and skips the details, which no decision needs.
func (c *Codec) OpenPolicy(appID string, raw []byte) (*policy.Policy, Cursor, error) {
	m, cursor, err := c.openDocument(appID, raw, withoutDetails)
	if err != nil {
		return nil, Cursor{}, err
	}
	tokens, err := tokensFromProto(m.GetPolicy().GetTokens())
	if err != nil {
		return nil, Cursor{}, fmt.Errorf("policy of %s: %w", appID, err)
	}
	memory, err := memoryFromProto(m.GetPolicy())
	if err != nil {
		return nil, Cursor{}, fmt.Errorf("%w policy of %s: %w", ErrMalformed, appID, err)
	}
	enforcement := enforcementFromProto(m.GetPolicy().GetEnforcement())
	p, err := policy.NewWithMemory(enforcement, tokens, m.GetPolicy().GetDeleted(), memory)
	if err != nil {
		return nil, Cursor{}, fmt.Errorf("%w policy of %s: %w", ErrMalformed, appID, err)
	}
	return p, cursor, nil
}

// ClaimedRevision returns the revision in a document without verifying it; false when it cannot be read. A
// replica uses it to account for a damaged document, and trusts it only if the state digest then matches.
func ClaimedRevision(raw []byte) (uint64, bool) {
	var sealed countersignv1.SealedRecord
	var m countersignv1.PolicyDocument
	if proto.Unmarshal(raw, &sealed) != nil || proto.Unmarshal(sealed.GetPayload(), &m) != nil {
		return 0, false
	}
	return m.GetRevision(), m.GetRevision() != 0
}

// UndecidedDocument returns a placeholder for an app's document that cannot be restored. It does not verify,
// so validators answer "undecided" for the app. It claims the revision, so that replicas can account for it
// in the state digest.
func UndecidedDocument(appID string, revision uint64) []byte {
	payload, err := proto.Marshal(&countersignv1.PolicyDocument{AppId: appID, Revision: revision})
	if err == nil {
		payload, err = proto.Marshal(&countersignv1.SealedRecord{Payload: payload})
	}
	if err != nil {
		panic(fmt.Sprintf("record: %v", err)) // app ids are ASCII
	}
	return payload
}

// openDocument verifies a document and parses the selected part of it.
func (c *Codec) openDocument(appID string, raw []byte, part func([]byte) []byte) (*countersignv1.PolicyDocument, Cursor,
	error,
) {
	var m countersignv1.PolicyDocument
	_, payload, err := c.verified(kindPolicy, c.PartitionOf(appID), raw)
	if err == nil {
		err = parse(kindPolicy, part(payload), &m)
	}
	if err != nil {
		return nil, Cursor{}, fmt.Errorf("policy of %s: %w", appID, err)
	}
	if m.GetAppId() != appID {
		return nil, Cursor{}, fmt.Errorf("%w policy: stands under another app than its own", ErrMalformed)
	}
	cursor, err := cursorOf(m.GetEpoch(), m.GetRevision(), m.GetTag())
	return &m, cursor, err
}

func whole(payload []byte) []byte { return payload }

// detailsField is the field number of PolicyDocument.details.
const detailsField = 6

// withoutDetails cuts the details off a document when they are its last field, which is where they are
// written. It returns the whole document otherwise, and when it does not parse. Details make up most of a
// document.
func withoutDetails(payload []byte) []byte {
	for at := 0; at < len(payload); {
		field, kind, tag := protowire.ConsumeTag(payload[at:])
		if tag < 0 {
			return payload
		}
		size := protowire.ConsumeFieldValue(field, kind, payload[at+tag:])
		switch end := at + tag + size; {
		case size < 0:
			return payload
		case field == detailsField && kind == protowire.BytesType && end == len(payload):
			return payload[:at]
		default:
			at = end
		}
	}
	return payload
}
