package record

import (
	"fmt"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// EpochStart is the log entry that begins an epoch.
type EpochStart struct {
	Cursor
	// Previous is the head that the epoch began on; zero when nothing was left of the partition.
	Previous Cursor
	Cause    countersignv1.EpochCause
	// Settled are the tags of orphans that this epoch settles: nobody needs to bring them back again.
	Settled []Tag
	// CommitMillis is the time of the start in milliseconds since the Unix epoch.
	CommitMillis int64
}

// Healed reports whether an authority began the epoch to bring back lost changes. Otherwise an operator began
// it.
func (e EpochStart) Healed() bool { return e.Cause == countersignv1.EpochCause_EPOCH_CAUSE_HEALED }

// SealEpoch signs the start of an epoch.
func (c *Codec) SealEpoch(partition int, e EpochStart) ([]byte, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	m := &countersignv1.EpochStart{
		Epoch: e.Epoch, Revision: e.Revision, Tag: e.Tag[:], Cause: e.Cause, CommitMillis: e.CommitMillis,
	}
	if p := e.Previous; p != (Cursor{}) {
		m.Previous = &countersignv1.Fork{Epoch: p.Epoch, Revision: p.Revision, Tag: p.Tag[:]}
	}
	for i := range e.Settled {
		m.SettledTags = append(m.SettledTags, e.Settled[i][:])
	}
	return c.seal(kindEpoch, partition, m)
}

// OpenEpoch verifies the start of an epoch.
func (c *Codec) OpenEpoch(partition int, raw []byte) (EpochStart, error) {
	var m countersignv1.EpochStart
	if err := c.open(kindEpoch, partition, raw, &m); err != nil {
		return EpochStart{}, err
	}
	cursor, err := cursorOf(m.GetEpoch(), m.GetRevision(), m.GetTag())
	if err != nil {
		return EpochStart{}, err
	}
	e := EpochStart{Cursor: cursor, Cause: m.GetCause(), CommitMillis: m.GetCommitMillis()}
	if p := m.GetPrevious(); p != nil {
		if e.Previous, err = cursorOf(p.GetEpoch(), p.GetRevision(), p.GetTag()); err != nil {
			return EpochStart{}, err
		}
	}
	for _, raw := range m.GetSettledTags() {
		var tag Tag
		if len(raw) != len(tag) {
			return EpochStart{}, fmt.Errorf("%w epoch start: settled tag", ErrMalformed)
		}
		copy(tag[:], raw)
		e.Settled = append(e.Settled, tag)
	}
	return e, nil
}
