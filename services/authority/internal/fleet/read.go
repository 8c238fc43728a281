package fleet

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/usage"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// The bounds of a report.
const (
	maxIDLength       = record.MaxValidatorIDLength
	maxInstanceLength = 64
	maxKeys           = 16
	maxKeyLength      = 64
	maxOrphans        = 1024
	maxAge            = 10 * 365 * 24 * time.Hour
)

// update is a report after its check.
type update struct {
	// validator has the sequence, the moved cursors and the other fields of the report. In the first message
	// it also has the validator's id, instance, start and staleness bound.
	validator record.Validator
	// heartbeat is true when the report has the age of the data.
	heartbeat bool
	digests   map[int][32]byte
	// begins has, for each moved partition, the revision at which the validator's links begin. A validator of
	// an earlier release sends none.
	begins  map[int]uint64
	orphans map[int][]record.Tag
	// usage is a batch of usage counts, progress says how far they were acknowledged; nil when the report has
	// none.
	usage    *usage.Batch
	progress *countersignv1.UsageProgress
}

var errOtherStore = apierr.Precondition("OTHER_STORE", "store", "the validator follows another store than this authority")

// readHello reads and checks the first message of a stream.
func (r *Registry) readHello(m *countersignv1.ReportRequest) (*update, error) {
	switch id := m.GetValidatorId(); {
	case !ValidID(id):
		return nil, apierr.Invalid("validator_id", "want 1 to %d characters, no control, zero-width or bidirectional "+
			"characters, no white space at the ends",
			maxIDLength)
	case id == record.UnknownMembers:
		return nil, apierr.Invalid("validator_id", "%s stands for validators that the fleet does not know: choose another name",
			record.UnknownMembers)
	case m.GetInstanceId() == "" || len(m.GetInstanceId()) > maxInstanceLength:
		return nil, apierr.Invalid("instance_id", "want 1 to %d characters", maxInstanceLength)
	case !m.GetStartTime().IsValid() || m.GetStartTime().AsTime().UnixMilli() <= 0:
		return nil, apierr.Invalid("start_time", "want a time after 1970")
	case m.GetStoreId() != r.codec.StoreID():
		return nil, errOtherStore
	}
	u, err := r.readReport(m)
	if err != nil {
		return nil, err
	}
	u.validator.ID, u.validator.InstanceID = m.GetValidatorId(), m.GetInstanceId()
	u.validator.Start = m.GetStartTime().AsTime().Truncate(time.Millisecond)
	u.validator.FencedAfter, err = durationOf("fenced_after", m.GetFencedAfter())
	return u, err
}

// ValidID reports whether a text may be a validator's name.
func ValidID(id string) bool { return record.ValidValidatorID(id) }

// readReport reads and checks the fields that every message may have.
func (r *Registry) readReport(m *countersignv1.ReportRequest) (*update, error) {
	u := &update{
		heartbeat: m.GetDataAge() != nil,
		digests:   map[int][32]byte{}, begins: map[int]uint64{}, orphans: map[int][]record.Tag{},
	}
	u.validator.Cursors = map[int]record.Cursor{}
	u.validator.Sequence, u.validator.Stale, u.validator.KeyIDs = m.GetSequence(), m.GetStale(), m.GetKeyIds()
	var err error
	var ok bool
	if u.validator.Clock, ok = record.ClockOf(m.GetClock()); !ok {
		return nil, apierr.Invalid("clock", "want a time of day, and how long the process runs")
	}
	if u.validator.DataAge, err = durationOf("data_age", m.GetDataAge()); err != nil {
		return nil, err
	}
	if m.GetSequence() == 0 {
		return nil, apierr.Invalid("sequence", "want 1 or more")
	}
	if len(m.GetKeyIds()) > maxKeys {
		return nil, apierr.Invalid("key_ids", "want at most %d", maxKeys)
	}
	for i, id := range m.GetKeyIds() {
		if id == "" || len(id) > maxKeyLength {
			return nil, apierr.Invalid(fmt.Sprintf("key_ids[%d]", i), "want 1 to %d characters", maxKeyLength)
		}
	}
	if len(m.GetStateDigests()) != len(m.GetCursors()) {
		return nil, apierr.Invalid("state_digests", "want one for each of cursors")
	}
	if n := len(m.GetPastBegins()); n != 0 && n != len(m.GetCursors()) {
		return nil, apierr.Invalid("past_begins", "want one for each of cursors, or none")
	}
	for i, at := range m.GetCursors() {
		if err := r.readCursor(u, i, at, m.GetStateDigests()[i]); err != nil {
			return nil, err
		}
	}
	for i, begins := range m.GetPastBegins() {
		u.begins[int(m.GetCursors()[i].GetPartition())] = begins
	}
	for i, o := range m.GetOrphans() {
		if err := r.readOrphans(u, i, o); err != nil {
			return nil, err
		}
	}
	if batch := m.GetLinks(); batch != nil && int64(batch.GetPartition()) >= int64(r.codec.Partitions()) {
		return nil, r.badPartition("links.partition")
	}
	return u, r.readUsage(u, m)
}

func (r *Registry) badPartition(field string) error {
	return apierr.Invalid(field, "want a partition below %d", r.codec.Partitions())
}

func (r *Registry) readCursor(u *update, i int, at *countersignv1.Position, digest []byte) error {
	field := fmt.Sprintf("cursors[%d]", i)
	if int64(at.GetPartition()) >= int64(r.codec.Partitions()) {
		return r.badPartition(field + ".partition")
	}
	cursor, err := record.NewCursor(at.GetEpoch(), at.GetRevision(), at.GetTag())
	if err != nil {
		return apierr.Invalid(field, "want an epoch from 1 and a revision, both at most %d, and a tag of 16 bytes",
			uint64(record.MaxPosition))
	}
	if !r.plausible(int(at.GetPartition()), cursor) {
		r.metrics.implausible.Inc()
		return apierr.Invalid(field, "epoch %d, revision %d of partition %d is more than %d beyond all that this authority "+
			"knows of the store",
			cursor.Epoch, cursor.Revision, at.GetPartition(), uint64(record.MaxJump))
	}
	if _, twice := u.validator.Cursors[int(at.GetPartition())]; twice {
		return apierr.Invalid(field+".partition", "is there twice")
	}
	var d [32]byte
	if len(digest) != len(d) {
		return apierr.Invalid(fmt.Sprintf("state_digests[%d]", i), "want 32 bytes")
	}
	copy(d[:], digest)
	u.validator.Cursors[int(at.GetPartition())], u.digests[int(at.GetPartition())] = cursor, d
	return nil
}

// plausible reports whether the store can have been at a reported position. It compares the position with
// positions from signed heads, and not with other reports, so that false reports cannot build on each other.
// The positions of the other partitions count too, since a restored store moves all partitions while one of
// them may not be loaded here.
func (r *Registry) plausible(partition int, claimed record.Cursor) bool {
	if claimed.Plausible(r.past.Confirmed(partition)) {
		return true
	}
	for other := range r.codec.Partitions() {
		if claimed.Plausible(r.past.Confirmed(other)) {
			return true
		}
	}
	return false
}

func (r *Registry) readOrphans(u *update, i int, o *countersignv1.Orphans) error {
	field := fmt.Sprintf("orphans[%d]", i)
	if int64(o.GetPartition()) >= int64(r.codec.Partitions()) {
		return r.badPartition(field + ".partition")
	}
	if len(o.GetTags()) > maxOrphans {
		return apierr.Invalid(field+".tags", "want at most %d", maxOrphans)
	}
	tags := make([]record.Tag, len(o.GetTags()))
	for j, raw := range o.GetTags() {
		if len(raw) != len(tags[j]) {
			return apierr.Invalid(field+".tags", "want 16 bytes each")
		}
		copy(tags[j][:], raw)
	}
	u.orphans[int(o.GetPartition())] = tags
	return nil
}

// durationOf reads an optional duration. It returns 0 when the duration is absent.
func durationOf(field string, d *durationpb.Duration) (time.Duration, error) {
	if d == nil {
		return 0, nil
	}
	if d.CheckValid() != nil || d.AsDuration() < 0 || d.AsDuration() > maxAge {
		return 0, apierr.Invalid(field, "want a duration from 0 to 10 years")
	}
	return d.AsDuration(), nil
}

// answerTo returns the response to a heartbeat.
func answerTo(m *countersignv1.ReportRequest) *countersignv1.ReportResponse {
	answer := &countersignv1.ReportResponse{Received: m.GetSequence()}
	if m.GetClock() != nil {
		answer.WallTime = timestamppb.Now()
	}
	return answer
}

// welcome returns the first response of a stream.
func welcome(floor []record.Position, known bool, hello *countersignv1.ReportRequest) *countersignv1.ReportResponse {
	m := answerTo(hello)
	m.Floor, m.FloorPending = floorToProto(floor), !known
	return m
}

func floorToProto(floor []record.Position) []*countersignv1.Position {
	all := make([]*countersignv1.Position, len(floor))
	for i, at := range floor {
		all[i] = &countersignv1.Position{
			StoreId: at.StoreID, Partition: uint32(at.Partition), Epoch: at.Epoch, Revision: at.Revision, Tag: at.Tag[:],
		}
	}
	return all
}
