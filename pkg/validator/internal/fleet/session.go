package fleet

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersign/countersign/pkg/grpcclient"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

const (
	// batchSize is about how many bytes of links one message has, and maxLink is the size of the largest
	// link that is sent. They bound the messages that an authority receives.
	batchSize = 1 << 20
	maxLink   = 4 << 20
	// orphansAtOnce is for how many partitions one report may have orphans.
	orphansAtOnce = 16
)

type reportStream = grpc.BidiStreamingClient[countersignv1.ReportRequest, countersignv1.ReportResponse]

var (
	errSilent = errors.New("the authority does not answer")
	errEnded  = errors.New("the authority has ended the stream")
)

// call opens a connection and a stream, and closes both when talk has returned. Each stream has a
// connection of its own, because a half-open connection must not carry the next stream.
func (r *Reporter) call(ctx context.Context, talk func(reportStream) error) error {
	connection, err := grpc.NewClient(r.config.Authority.Target(), r.options()...)
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := countersignv1.NewFleetServiceClient(connection).Report(ctx)
	if err == nil {
		err = talk(stream)
	}
	switch {
	case errors.Is(err, io.EOF):
		return errEnded
	case err != nil && status.Convert(err).Message() != "":
		return &refusal{err}
	}
	return err
}

// refusal is a gRPC error of a stream. Its text is short and says what to do.
type refusal struct{ error }

// Error returns the code and the message, and advice for known mistakes.
func (r *refusal) Error() string {
	text := status.Code(r.error).String() + ": " + status.Convert(r.error).Message()
	switch {
	case grpcclient.AnswersPlain(r.error):
		text += "; the authority answers in plain text: give it a certificate, " +
			"or this validator --authority-plaintext if nobody can listen on the way"
	case grpcclient.WantsTLS(r.error):
		text += "; if the authority wants TLS, give --authority-tls, " +
			"or --authority-tls-ca-file when this machine does not know who signed its certificate"
	case status.Code(r.error) == codes.Unimplemented:
		text += "; this is no address of an authority: give --authority the address of its gRPC server"
	}
	return text
}

// Unwrap returns the error.
func (r *refusal) Unwrap() error { return r.error }

// session is the state of one stream.
type session struct {
	*Reporter
	of      *replica.Replica
	decides func() bool
	stream  reportStream
	// sent, begins and orphans are the latest values that the authority was sent, by partition.
	sent    []record.Cursor
	begins  []uint64
	orphans [][]record.Tag
	last    time.Time // when the latest report was sent
	wanted  chan int  // partitions whose links the authority has asked for
	// progress is what the authority was told last about usage counts.
	progress *countersignv1.UsageProgress
	// paced is the earliest time for the next batch of usage counts.
	paced time.Time
}

// session reports over one stream until the stream ends. It calls heard after the authority's first answer,
// and welcomed after each floor.
func (r *Reporter) session(ctx context.Context, of *replica.Replica, decides func() bool, heard, welcomed func()) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	watchdog := time.AfterFunc(silence, func() { end(errSilent) })
	defer watchdog.Stop()
	err := r.call(ctx, func(stream reportStream) error {
		partitions := of.Codec().Partitions()
		s := &session{
			Reporter: r, of: of, decides: decides, stream: stream, wanted: make(chan int, partitions),
			sent: make([]record.Cursor, partitions), begins: make([]uint64, partitions), orphans: make([][]record.Tag, partitions),
		}
		var running sync.WaitGroup
		defer running.Wait()
		ctx, cancel := context.WithCancel(stream.Context())
		defer cancel()
		received := make(chan error, 1)
		running.Go(func() {
			received <- s.receive(watchdog, heard, welcomed)
			cancel()
		})
		if r.handover.counter != nil {
			r.handover.open(of)
			running.Go(func() { r.handover.takeAll(ctx, r.Connected) })
		}
		err := s.send(ctx)
		if errors.Is(err, io.EOF) || ctx.Err() != nil {
			// Only receive knows why the stream has ended.
			err = <-received
		}
		end(err)
		return err
	})
	if cause := context.Cause(ctx); errors.Is(cause, errSilent) {
		return errSilent
	}
	return err
}

// receive handles the authority's messages until the stream ends, and returns why it has.
func (s *session) receive(watchdog *time.Timer, heard, welcomed func()) error {
	for first := true; ; first = false {
		m, err := s.stream.Recv()
		if err != nil {
			return err
		}
		watchdog.Reset(silence)
		s.compareClocks(m)
		s.handover.receive(m, time.Now())
		if first {
			s.connected.Store(true)
			heard()
		}
		if first || len(m.GetFloor()) > 0 {
			s.takeFloor(m, welcomed)
		}
		for _, partition := range m.GetLinksWanted() {
			if int(partition) < len(s.sent) {
				select {
				case s.wanted <- int(partition):
				default:
				}
			}
		}
	}
}

// takeFloor passes the floor to the replica, or notes that it is pending.
func (s *session) takeFloor(m *countersignv1.ReportResponse, welcomed func()) {
	s.pending.Store(m.GetFloorPending())
	if m.GetFloorPending() {
		return
	}
	s.of.SetFloor(floorOf(m))
	s.verified.Store(true)
	welcomed()
}

func floorOf(m *countersignv1.ReportResponse) []record.Position {
	var floor []record.Position
	for _, at := range m.GetFloor() {
		cursor, err := record.NewCursor(at.GetEpoch(), at.GetRevision(), at.GetTag())
		if err == nil {
			floor = append(floor, record.Position{StoreID: at.GetStoreId(), Partition: int(at.GetPartition()), Cursor: cursor})
		}
	}
	return floor
}

// hello returns the first message of a stream.
func (r *Reporter) hello(storeID string) *countersignv1.ReportRequest {
	m := &countersignv1.ReportRequest{
		ValidatorId: r.config.ID, InstanceId: r.instance, StartTime: timestamppb.New(r.start), StoreId: storeID,
		Sequence: r.sequence.Add(1),
	}
	if r.config.FencedAfter > 0 {
		m.FencedAfter = durationpb.New(r.config.FencedAfter)
	}
	return m
}

// send reports until ctx ends.
func (s *session) send(ctx context.Context) error {
	hello := s.hello(s.of.Codec().StoreID())
	s.addAge(hello)
	changed := s.of.Changed()
	s.addMoved(hello)
	s.addOrphans(hello)
	s.addProgress(hello)
	s.addClock(hello)
	if err := s.stream.Send(hello); err != nil {
		return err
	}
	s.last = time.Now()
	s.reports.Add(1)
	heartbeat := time.NewTicker(Interval)
	defer heartbeat.Stop()
	counts := time.NewTimer(idle)
	defer counts.Stop()
	if s.handover.counter == nil {
		counts.Stop()
	}
	for {
		m := &countersignv1.ReportRequest{}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case partition := <-s.wanted:
			if err := s.sendLinks(partition); err != nil {
				return err
			}
			continue
		case <-s.handover.answered:
			counts.Reset(max(time.Until(s.paced), minSpread))
			continue
		case <-counts.C:
			pause, err := s.sendUsage()
			if err != nil {
				return err
			}
			counts.Reset(pause)
			continue
		case <-heartbeat.C:
			s.addAge(m)
			s.addProgress(m)
		case <-changed:
			if pause := coalesce - time.Since(s.last); pause > 0 {
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(pause):
				}
			}
		}
		changed = s.of.Changed()
		s.addMoved(m)
		s.addOrphans(m)
		if m.GetDataAge() == nil && len(m.GetCursors()) == 0 && len(m.GetOrphans()) == 0 {
			continue
		}
		m.Sequence = s.sequence.Add(1)
		s.addClock(m)
		if err := s.stream.Send(m); err != nil {
			return err
		}
		s.last = time.Now()
		s.reports.Add(1)
	}
}

// addAge adds the data's age and the key ids, which are reported every Interval.
func (s *session) addAge(m *countersignv1.ReportRequest) {
	var oldest time.Duration
	now := time.Now()
	for partition := range s.sent {
		age, stale := s.of.Freshness(partition, now)
		oldest, m.Stale = max(oldest, age), m.GetStale() || stale
	}
	m.DataAge, m.KeyIds = durationpb.New(oldest), s.config.KeyIDs
}

// addMoved adds the partitions whose cursor has changed since the latest report, or whose links begin
// earlier. The replica reads links from before a load only after the load. It leaves out torn partitions:
// an app of such a partition still has an older policy than the cursor says.
func (s *session) addMoved(m *countersignv1.ReportRequest) {
	if !s.decides() {
		return
	}
	for partition, at := range s.of.Cursors() {
		begins := s.of.PastBegins(partition)
		if at == s.sent[partition] && begins == s.begins[partition] {
			continue
		}
		at, sum, loaded := s.of.State(partition)
		if !loaded || s.of.Torn(partition) {
			continue
		}
		digest := s.of.Codec().SealSum(partition, sum)
		m.Cursors = append(m.Cursors, &countersignv1.Position{
			Partition: uint32(partition), Epoch: at.Epoch, Revision: at.Revision, Tag: at.Tag[:],
		})
		m.StateDigests = append(m.StateDigests, digest.MAC[:])
		m.PastBegins = append(m.PastBegins, begins)
		s.sent[partition], s.begins[partition] = at, begins
	}
}

// addOrphans adds the partitions whose orphans have changed since the latest report.
func (s *session) addOrphans(m *countersignv1.ReportRequest) {
	for partition := range s.orphans {
		tags := s.of.Orphans(partition)
		if len(m.GetOrphans()) == orphansAtOnce || slices.Equal(tags, s.orphans[partition]) {
			continue
		}
		o := &countersignv1.Orphans{Partition: uint32(partition)}
		for i := range tags {
			o.Tags = append(o.Tags, tags[i][:])
		}
		m.Orphans = append(m.Orphans, o)
		s.orphans[partition] = tags
	}
}

// addProgress adds how far the usage counts were acknowledged, if that has changed.
func (s *session) addProgress(m *countersignv1.ReportRequest) {
	if p := s.handover.progress(); p != nil && !proto.Equal(p, s.progress) {
		m.UsageProgress, s.progress = p, p
	}
}

// sendUsage sends one batch of usage counts, if one is due, and returns when to look again.
func (s *session) sendUsage() (pause time.Duration, err error) {
	m, pause := s.handover.next(time.Now())
	if m == nil {
		return pause, nil
	}
	m.Sequence = s.sequence.Add(1)
	s.addClock(m)
	err = s.stream.Send(m)
	s.paced = time.Now().Add(pause)
	return pause, err
}

// sendLinks sends the links of a partition.
func (s *session) sendLinks(partition int) error {
	batch := &countersignv1.LinkBatch{Partition: uint32(partition)}
	size := 0
	flush := func() error {
		m := &countersignv1.ReportRequest{Sequence: s.sequence.Add(1), Links: batch}
		batch, size = &countersignv1.LinkBatch{Partition: uint32(partition)}, 0
		return s.stream.Send(m)
	}
	for _, raw := range s.of.Links(partition) {
		if len(raw) > maxLink {
			continue
		}
		if size+len(raw) > batchSize && size > 0 {
			if err := flush(); err != nil {
				return err
			}
		}
		batch.Links, size = append(batch.Links, raw), size+len(raw)
	}
	batch.Last = true
	return flush()
}
