package record

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// FleetKey is a hash and a channel. In the hash, authorities keep the validators that report to them, by
// name. On the channel, authorities tell each other what changes.
const FleetKey = "cs:fleet"

// Validator is one validator as authorities know it.
type Validator struct {
	ID, InstanceID string
	// Start is when the instance started, by its own clock. Of two instances with one name the later one
	// counts.
	Start time.Time
	// Sequence is the number of the latest report. Of two records of one instance the higher one is newer.
	Sequence uint64
	// Cursors are by partition: all of them, or only the changed ones.
	Cursors map[int]Cursor
	// DataAge and Stale are from the latest report.
	DataAge time.Duration
	Stale   bool
	// FencedAfter is the age of data from which on the validator answers no scope; 0 when it has no such
	// bound.
	FencedAfter time.Duration
	KeyIDs      []string
	// Orphans is how many orphans it holds.
	Orphans int
	// Reported is when the latest report arrived, by the wall clock of the authority that received it.
	Reported time.Time
	// Gone says that the validator left the fleet, or was forgotten, at the time Reported.
	Gone bool
	// Clock is what its clocks showed when it made the latest report.
	Clock Clock
}

// Clock is one moment by two clocks of one process. The zero value means that the process did not report it.
type Clock struct {
	// Wall is the time of day.
	Wall time.Time
	// Monotonic is the time since the process started, by a clock that nobody sets.
	Monotonic time.Duration
}

// maxMonotonic is longer than any process runs: 100 years.
const maxMonotonic = 100 * 365 * 24 * time.Hour

// ClockOf converts a reading; ok is false when it is invalid. A missing reading gives the zero value.
func ClockOf(m *countersignv1.ClockReading) (c Clock, ok bool) {
	if m == nil {
		return Clock{}, true
	}
	if !m.GetWallTime().IsValid() || !m.GetMonotonicTime().IsValid() {
		return Clock{}, false
	}
	c = Clock{Wall: m.GetWallTime().AsTime(), Monotonic: m.GetMonotonicTime().AsDuration()}
	return c, c.Monotonic >= 0 && c.Monotonic <= maxMonotonic
}

// ToProto returns the reading as a message; nil for the zero value.
func (c Clock) ToProto() *countersignv1.ClockReading {
	if c.Wall.IsZero() {
		return nil
	}
	return &countersignv1.ClockReading{WallTime: timestamppb.New(c.Wall), MonotonicTime: durationpb.New(c.Monotonic)}
}

// Newer reports whether a record is newer than another record of the same name.
func (v *Validator) Newer(than *Validator) bool {
	switch {
	case v.InstanceID == than.InstanceID:
		return v.Sequence > than.Sequence || v.Sequence == than.Sequence && v.Gone && !than.Gone
	case !v.Start.Equal(than.Start):
		return v.Start.After(than.Start)
	}
	return v.InstanceID > than.InstanceID
}

// SealValidator signs a field of the fleet's hash.
func (c *Codec) SealValidator(v *Validator) ([]byte, error) {
	return c.seal(kindValidator, 0, validatorToProto(v))
}

// OpenValidator verifies the field of the fleet's hash with a validator's name.
func (c *Codec) OpenValidator(id string, raw []byte) (*Validator, error) {
	var m countersignv1.ValidatorRecord
	if err := c.open(kindValidator, 0, raw, &m); err != nil {
		return nil, err
	}
	if m.GetValidatorId() != id {
		return nil, fmt.Errorf("%w validator: stands under another name than its own", ErrMalformed)
	}
	return c.validatorFromProto(&m)
}

// SealNews signs a message on the fleet's channel.
func (c *Codec) SealNews(records []*Validator) ([]byte, error) {
	m := &countersignv1.FleetNews{}
	for _, v := range records {
		m.Records = append(m.Records, validatorToProto(v))
	}
	return c.seal(kindNews, 0, m)
}

// SealOffer signs a message on the fleet's channel that offers links of a partition to other authorities.
func (c *Codec) SealOffer(sender string, partition int, links [][]byte) ([]byte, error) {
	return c.seal(kindNews, 0, &countersignv1.FleetNews{
		Sender: sender, Links: &countersignv1.LinkBatch{Partition: uint32(partition), Links: links},
	})
}

// News is a message on the fleet's channel.
type News struct {
	Records []*Validator
	// Offered are links of Partition, as they are in the log. They are not verified. Sender names the
	// authority that offers them.
	Sender    string
	Partition int
	Offered   [][]byte
}

// OpenNews verifies a message on the fleet's channel.
func (c *Codec) OpenNews(raw []byte) (*News, error) {
	var m countersignv1.FleetNews
	if err := c.open(kindNews, 0, raw, &m); err != nil {
		return nil, err
	}
	if int64(m.GetLinks().GetPartition()) >= int64(c.Partitions()) {
		return nil, fmt.Errorf("%w news: offers links of partition %d", ErrMalformed, m.GetLinks().GetPartition())
	}
	news := &News{
		Records: make([]*Validator, len(m.GetRecords())), Partition: int(m.GetLinks().GetPartition()),
		Sender: m.GetSender(), Offered: m.GetLinks().GetLinks(),
	}
	for i, one := range m.GetRecords() {
		var err error
		if news.Records[i], err = c.validatorFromProto(one); err != nil {
			return nil, err
		}
	}
	return news, nil
}

func validatorToProto(v *Validator) *countersignv1.ValidatorRecord {
	m := &countersignv1.ValidatorRecord{
		ValidatorId: v.ID, InstanceId: v.InstanceID, StartMillis: v.Start.UnixMilli(), Sequence: v.Sequence,
		DataAgeMillis: v.DataAge.Milliseconds(), Stale: v.Stale, FencedAfterMillis: v.FencedAfter.Milliseconds(),
		KeyIds: v.KeyIDs, OrphanCount: uint32(v.Orphans), ReportMillis: v.Reported.UnixMilli(), Gone: v.Gone,
		Clock: v.Clock.ToProto(),
	}
	for partition, at := range v.Cursors {
		m.Cursors = append(m.Cursors, &countersignv1.Position{
			Partition: uint32(partition), Epoch: at.Epoch, Revision: at.Revision, Tag: at.Tag[:],
		})
	}
	return m
}

func (c *Codec) validatorFromProto(m *countersignv1.ValidatorRecord) (*Validator, error) {
	v := &Validator{
		ID: m.GetValidatorId(), InstanceID: m.GetInstanceId(), Start: time.UnixMilli(m.GetStartMillis()),
		Sequence: m.GetSequence(),
		DataAge:  time.Duration(m.GetDataAgeMillis()) * time.Millisecond, Stale: m.GetStale(),
		FencedAfter: time.Duration(m.GetFencedAfterMillis()) * time.Millisecond,
		KeyIDs:      m.GetKeyIds(), Orphans: int(m.GetOrphanCount()), Reported: time.UnixMilli(m.GetReportMillis()),
		Gone:    m.GetGone(),
		Cursors: make(map[int]Cursor, len(m.GetCursors())),
	}
	for _, at := range m.GetCursors() {
		cursor, err := cursorOf(at.GetEpoch(), at.GetRevision(), at.GetTag())
		if err != nil || int(at.GetPartition()) >= c.meta.Partitions {
			return nil, fmt.Errorf("%w validator: cursor", ErrMalformed)
		}
		v.Cursors[int(at.GetPartition())] = cursor
	}
	var ok bool
	if v.Clock, ok = ClockOf(m.GetClock()); !ok {
		return nil, fmt.Errorf("%w validator: clock", ErrMalformed)
	}
	return v, nil
}
