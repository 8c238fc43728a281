package record

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersign/countersign/pkg/keyring"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// Head is the signed newest state of a partition.
type Head struct {
	Cursor
	// Policies counts the documents, those of deleted apps included.
	Policies uint64
	// State is the sealed digest of all documents (see Sum).
	State SealedSum
	// Audit is the end of the audit trail.
	Audit AuditTail
	// Forks are the last cursors of earlier epochs, oldest first, at most MaxForks. The slice is shared: do
	// not change it.
	Forks []Cursor
	// Unhealed says that an operator began the epoch and no authority has healed it yet. The store accepts no
	// changes until then.
	Unhealed bool
}

// MaxForks bounds how many ends of epochs a head carries.
const MaxForks = 16

// Begin returns the head of a new epoch that follows this head, before any change in it. The caller sets
// Unhealed.
func (h Head) Begin(first Cursor) Head {
	forks := append(slices.Clone(h.Forks), h.Cursor)
	h.Forks = forks[max(len(forks)-MaxForks, 0):]
	h.Cursor = first
	return h
}

// SealHead signs a head.
func (c *Codec) SealHead(partition int, h Head) ([]byte, error) {
	if err := checkHead(h); err != nil {
		return nil, err
	}
	m := &countersignv1.Head{
		Epoch: h.Epoch, Revision: h.Revision, Tag: h.Tag[:],
		PolicyCount: h.Policies, StateDigest: h.State.MAC[:], StateKeyId: h.State.Key,
		AuditSequence: h.Audit.Sequence, AuditTail: h.Audit.Chain, Unhealed: h.Unhealed,
	}
	for _, f := range h.Forks {
		m.Forks = append(m.Forks, &countersignv1.Fork{Epoch: f.Epoch, Revision: f.Revision, Tag: f.Tag[:]})
	}
	return c.seal(kindHead, partition, m)
}

// OpenHead verifies a head.
func (c *Codec) OpenHead(partition int, raw []byte) (Head, error) {
	var m countersignv1.Head
	keyID, err := c.openWithKey(kindHead, partition, raw, &m)
	if err != nil {
		return Head{}, err
	}
	cursor, err := cursorOf(m.GetEpoch(), m.GetRevision(), m.GetTag())
	if err != nil {
		return Head{}, err
	}
	h := Head{
		Cursor: cursor, Policies: m.GetPolicyCount(), Audit: AuditTail{Sequence: m.GetAuditSequence(), Chain: m.GetAuditTail()},
		Unhealed: m.GetUnhealed(),
	}
	if copy(h.State.MAC[:], m.GetStateDigest()) != len(h.State.MAC) {
		return Head{}, fmt.Errorf("%w head: state digest", ErrMalformed)
	}
	// Heads of earlier releases name no key: the key that signed the head made the digest too.
	h.State.Key = cmp.Or(m.GetStateKeyId(), keyID)
	if _, err := c.ring.SignWith(h.State.Key); err != nil {
		return Head{}, fmt.Errorf("record %s: state digest: %w", kindHead, err)
	}
	for _, f := range m.GetForks() {
		fork, err := cursorOf(f.GetEpoch(), f.GetRevision(), f.GetTag())
		if err != nil {
			return Head{}, err
		}
		h.Forks = append(h.Forks, fork)
	}
	return h, checkHead(h)
}

// checkHead rejects a head that nothing could follow.
func checkHead(h Head) error {
	if h.Audit.Sequence > MaxPosition {
		return fmt.Errorf("%w head: %d audit rows, want at most %d", ErrMalformed, h.Audit.Sequence, uint64(MaxPosition))
	}
	return h.check()
}

// Meta identifies a store.
type Meta struct {
	StoreID    string
	Partitions int
	CreateTime time.Time
	// MembersListed says that the store was made with a list of the fleet's members. If the list is missing,
	// somebody removed it. Stores of earlier releases have none until an authority writes it.
	MembersListed bool
}

// SealMeta signs a meta. A codec is made from a meta, so this is a function and no method of Codec.
func SealMeta(ring *keyring.Ring, m Meta) ([]byte, error) {
	return (&Codec{ring: ring}).seal(kindMeta, 0, &countersignv1.StoreMeta{
		StoreId: m.StoreID, Partitions: uint32(m.Partitions), CreateTime: timestamppb.New(m.CreateTime),
		MembersListed: m.MembersListed,
	})
}

// OpenMeta verifies a meta.
func OpenMeta(ring *keyring.Ring, raw []byte) (Meta, error) {
	var m countersignv1.StoreMeta
	if err := (&Codec{ring: ring}).open(kindMeta, 0, raw, &m); err != nil {
		return Meta{}, err
	}
	if m.GetStoreId() == "" || m.GetPartitions() == 0 || m.GetPartitions() > MaxPartitions {
		return Meta{}, fmt.Errorf("%w meta", ErrMalformed)
	}
	return Meta{
		StoreID: m.GetStoreId(), Partitions: int(m.GetPartitions()), CreateTime: m.GetCreateTime().AsTime(),
		MembersListed: m.GetMembersListed(),
	}, nil
}
