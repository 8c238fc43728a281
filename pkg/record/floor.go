package record

import (
	"fmt"
	"time"

	"github.com/countersign/countersign/pkg/keyring"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// Floor is the least positions that a store must have. A store with the same id that is below its floor lost
// changes, or is an old copy.
type Floor struct {
	StoreID string
	// Cursors are the highest confirmed cursors, by partition; zero where nothing was confirmed.
	Cursors []Cursor
	// Written is when the floor was saved, by the wall clock.
	Written time.Time
}

// Positions returns the confirmed cursors as positions.
func (f *Floor) Positions() []Position {
	var all []Position
	for partition, at := range f.Cursors {
		if at != (Cursor{}) {
			all = append(all, Position{StoreID: f.StoreID, Partition: partition, Cursor: at})
		}
	}
	return all
}

// SealFloor signs a floor. A floor names its store, as a meta does, so this is no method of Codec.
func SealFloor(ring *keyring.Ring, f Floor) ([]byte, error) {
	m := &countersignv1.FloorRecord{StoreId: f.StoreID, Partitions: uint32(len(f.Cursors)), WriteMillis: f.Written.UnixMilli()}
	for _, at := range f.Positions() {
		if err := at.check(); err != nil {
			return nil, err
		}
		m.Positions = append(m.Positions, &countersignv1.Position{
			Partition: uint32(at.Partition), Epoch: at.Epoch, Revision: at.Revision, Tag: at.Tag[:],
		})
	}
	return (&Codec{ring: ring}).seal(kindFloor, 0, m)
}

// OpenFloor verifies a floor.
func OpenFloor(ring *keyring.Ring, raw []byte) (Floor, error) {
	var m countersignv1.FloorRecord
	if err := (&Codec{ring: ring}).open(kindFloor, 0, raw, &m); err != nil {
		return Floor{}, err
	}
	if m.GetStoreId() == "" || m.GetPartitions() == 0 || m.GetPartitions() > MaxPartitions {
		return Floor{}, fmt.Errorf("%w floor: want a store with 1 to %d partitions", ErrMalformed, MaxPartitions)
	}
	f := Floor{StoreID: m.GetStoreId(), Cursors: make([]Cursor, m.GetPartitions()), Written: time.UnixMilli(m.GetWriteMillis())}
	for _, p := range m.GetPositions() {
		at, err := cursorOf(p.GetEpoch(), p.GetRevision(), p.GetTag())
		if err != nil || p.GetPartition() >= m.GetPartitions() {
			return Floor{}, fmt.Errorf("%w floor: partition %d", ErrMalformed, p.GetPartition())
		}
		f.Cursors[p.GetPartition()] = at
	}
	return f, nil
}
