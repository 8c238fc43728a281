// Package record defines every record that a store holds: heads, policy documents, links of the log, audit
// rows, request results and fleet records, with the names of their keys. A Codec signs records and verifies
// them. A record that does not parse or verify is an error, never a partial result.
//
// The package does no I/O. It is the boundary for generated protobuf types of the store's format: other
// packages see record's own types. This package is not part of the public API and may
// change in any release.
package record

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/policy"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// ErrMalformed says that a record does not have the form of its kind. Other errors of opening a record are
// keyring.ErrUnknownKey and keyring.ErrMismatch.
var ErrMalformed = errors.New("record: malformed")

// kind is part of every MAC, so that a record of one kind is never accepted as a record of another.
type kind string

const (
	kindMeta         kind = "meta"
	kindHead         kind = "head"
	kindPolicy       kind = "policy"
	kindLink         kind = "link"
	kindAudit        kind = "audit"
	kindRequest      kind = "request"
	kindStateElement kind = "state-element"
	kindStateDigest  kind = "state-digest"
	kindAuditChain   kind = "audit-chain"
	kindEpoch        kind = "epoch"
	kindValidator    kind = "validator"
	kindNews         kind = "fleet-news"
	kindMembers      kind = "fleet-members"
	kindFileHeader   kind = "file-header"
	kindFileRecord   kind = "file-record"
	kindFileSum      kind = "file-sum"
	kindFloor        kind = "floor"
)

// Codec signs and opens the records of one store. It is immutable and safe for concurrent use.
type Codec struct {
	ring *keyring.Ring
	meta Meta
}

// NewCodec returns the codec of the store that a meta describes.
func NewCodec(ring *keyring.Ring, m Meta) *Codec {
	return &Codec{ring: ring, meta: m}
}

// Meta returns the identity of the store.
func (c *Codec) Meta() Meta { return c.meta }

// StoreID returns the store's id.
func (c *Codec) StoreID() string { return c.meta.StoreID }

// Partitions returns the number of partitions.
func (c *Codec) Partitions() int { return c.meta.Partitions }

// PartitionOf returns the partition of an app.
func (c *Codec) PartitionOf(appID string) int {
	hash := policy.HashApp(appID)
	return hash.Partition(c.meta.Partitions)
}

// scope returns what a MAC covers besides the payload. Epoch, revision, tags and app_id are inside the
// payload.
func (c *Codec) scope(k kind, partition int) (kindPart, storePart, partitionPart []byte) {
	return []byte("countersign/v1/" + k), []byte(c.meta.StoreID), []byte{byte(partition >> 8), byte(partition)}
}

func (c *Codec) seal(k kind, partition int, payload proto.Message) ([]byte, error) {
	data, err := proto.Marshal(payload)
	if err != nil {
		return nil, err
	}
	kindPart, storePart, partitionPart := c.scope(k, partition)
	id, mac := c.ring.Sign(kindPart, storePart, partitionPart, data)
	return proto.Marshal(&countersignv1.SealedRecord{KeyId: id, Mac: mac[:], Payload: data})
}

func (c *Codec) open(k kind, partition int, raw []byte, into proto.Message) error {
	_, err := c.openWithKey(k, partition, raw, into)
	return err
}

// openWithKey does what open does, and returns the id of the key that signed the record.
func (c *Codec) openWithKey(k kind, partition int, raw []byte, into proto.Message) (keyID string, err error) {
	keyID, payload, err := c.verified(k, partition, raw)
	if err != nil {
		return "", err
	}
	return keyID, parse(k, payload, into)
}

// verified returns the signed payload, and the id of the key that signed it.
func (c *Codec) verified(k kind, partition int, raw []byte) (keyID string, payload []byte, err error) {
	var sealed countersignv1.SealedRecord
	if err := proto.Unmarshal(raw, &sealed); err != nil {
		return "", nil, fmt.Errorf("%w %s: not a sealed record", ErrMalformed, k)
	}
	kindPart, storePart, partitionPart := c.scope(k, partition)
	if err := c.ring.Verify(sealed.GetKeyId(), sealed.GetMac(), kindPart, storePart, partitionPart,
		sealed.GetPayload()); err != nil {
		return "", nil, fmt.Errorf("record %s: %w", k, err)
	}
	return sealed.GetKeyId(), sealed.GetPayload(), nil
}

func parse(k kind, payload []byte, into proto.Message) error {
	if err := proto.Unmarshal(payload, into); err != nil {
		return fmt.Errorf("%w %s: payload does not parse", ErrMalformed, k)
	}
	return nil
}
