package record

import (
	"bytes"
	"fmt"

	"google.golang.org/protobuf/proto"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// AuditTail is the end of a partition's audit trail.
type AuditTail struct {
	// Sequence counts the rows, from 1; 0 for an empty trail.
	Sequence uint64
	// Chain is the chain value of the latest row; empty for an empty trail.
	Chain []byte
}

// SealAudit appends an event to a trail. It returns the row and the trail's new end. A row's chain value
// covers the previous one, so an edit, a gap or a cut shows (B23).
func (c *Codec) SealAudit(partition int, tail AuditTail, event *countersignv1.AuditEvent) ([]byte, AuditTail, error) {
	data, err := proto.Marshal(event)
	if err != nil {
		return nil, AuditTail{}, err
	}
	kindPart, storePart, partitionPart := c.scope(kindAuditChain, partition)
	_, chain := c.ring.Sign(kindPart, storePart, partitionPart, tail.Chain, data)
	next := AuditTail{Sequence: tail.Sequence + 1, Chain: chain[:]}
	raw, err := c.seal(kindAudit, partition, &countersignv1.AuditRecord{
		Sequence: next.Sequence, Previous: tail.Chain, Chain: next.Chain, Event: data,
	})
	return raw, next, err
}

// OpenAudit verifies the row that follows a trail. It returns the event and the trail's new end.
func (c *Codec) OpenAudit(partition int, tail AuditTail, raw []byte) (*countersignv1.AuditEvent, AuditTail, error) {
	var m countersignv1.AuditRecord
	keyID, err := c.openWithKey(kindAudit, partition, raw, &m)
	if err != nil {
		return nil, AuditTail{}, err
	}
	// The key that signed the row made its chain value too. Another key may be current since.
	kindPart, storePart, partitionPart := c.scope(kindAuditChain, partition)
	if m.GetSequence() != tail.Sequence+1 || !bytes.Equal(m.GetPrevious(), tail.Chain) ||
		c.ring.Verify(keyID, m.GetChain(), kindPart, storePart, partitionPart, tail.Chain, m.GetEvent()) != nil {
		return nil, AuditTail{}, fmt.Errorf("%w audit row %d: does not follow row %d", ErrMalformed, m.GetSequence(),
			tail.Sequence)
	}
	var event countersignv1.AuditEvent
	if err := proto.Unmarshal(m.GetEvent(), &event); err != nil {
		return nil, AuditTail{}, fmt.Errorf("%w audit row %d: event does not parse", ErrMalformed, m.GetSequence())
	}
	return &event, AuditTail{Sequence: m.GetSequence(), Chain: m.GetChain()}, nil
}
