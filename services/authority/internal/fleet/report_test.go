package fleet_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/record"
	pb "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/test/cluster"
)

// TestBadReports: a bad message ends the stream with an error that names the bad field.
func TestBadReports(t *testing.T) {
	w := start(t, cluster.Options{})
	digest, tag := make([]byte, 32), make([]byte, 16)
	position := func(partition uint32, epoch, revision uint64) *pb.Position {
		return &pb.Position{Partition: partition, Epoch: epoch, Revision: revision, Tag: tag}
	}
	cursors := func(all ...*pb.Position) func(*pb.ReportRequest) {
		return func(m *pb.ReportRequest) {
			m.Cursors = all
			for range all {
				m.StateDigests = append(m.StateDigests, digest)
			}
		}
	}
	orphans := func(partition uint32, tags ...[]byte) func(*pb.ReportRequest) {
		return func(m *pb.ReportRequest) { m.Orphans = []*pb.Orphans{{Partition: partition, Tags: tags}} }
	}
	usage := func(change func(*pb.UsageBatch)) func(*pb.ReportRequest) {
		return func(m *pb.ReportRequest) {
			app := "app-0"
			for i := 0; w.codec().PartitionOf(app) != 3; i++ {
				app = fmt.Sprint("app-", i)
			}
			m.Usage = &pb.UsageBatch{Number: 1, Partition: 3, Counts: []*pb.UsageCount{{
				AppId: app, Scope: pb.Scope_SCOPE_EVENTS, Reason: pb.Reason_REASON_TOKEN_MISSING, Minute: timestamppb.Now(), Count: 1,
			}}}
			change(m.Usage)
		}
	}
	type bad struct {
		name, field string
		change      func(*pb.ReportRequest)
	}
	first := []bad{
		{"no name", "validator_id", func(m *pb.ReportRequest) { m.ValidatorId = "" }},
		{"long name", "validator_id", func(m *pb.ReportRequest) { m.ValidatorId = strings.Repeat("ä", 101) }},
		{"line break in the name", "validator_id", func(m *pb.ReportRequest) { m.ValidatorId = "a\nb" }},
		{"space at the end of the name", "validator_id", func(m *pb.ReportRequest) { m.ValidatorId = "a " }},
		{"no instance", "instance_id", func(m *pb.ReportRequest) { m.InstanceId = "" }},
		{"long instance", "instance_id", func(m *pb.ReportRequest) { m.InstanceId = strings.Repeat("a", 65) }},
		{"no start", "start_time", func(m *pb.ReportRequest) { m.StartTime = nil }},
		{"1970", "start_time", func(m *pb.ReportRequest) { m.StartTime = &timestamppb.Timestamp{} }},
		{"negative bound", "fenced_after", func(m *pb.ReportRequest) { m.FencedAfter = durationpb.New(-1) }},
		{
			"endless bound", "fenced_after",
			func(m *pb.ReportRequest) { m.FencedAfter = &durationpb.Duration{Seconds: math.MaxInt64} },
		},
	}
	any := []bad{
		{"no sequence", "sequence", func(m *pb.ReportRequest) { m.Sequence = 0 }},
		{"negative age", "data_age", func(m *pb.ReportRequest) { m.DataAge = durationpb.New(-1) }},
		{"endless age", "data_age", func(m *pb.ReportRequest) { m.DataAge = &durationpb.Duration{Seconds: math.MaxInt64} }},
		{"many keys", "key_ids", func(m *pb.ReportRequest) { m.KeyIds = make([]string, 17) }},
		{"empty key", "key_ids[1]", func(m *pb.ReportRequest) { m.KeyIds = []string{"a", ""} }},
		{"long key", "key_ids[0]", func(m *pb.ReportRequest) { m.KeyIds = []string{strings.Repeat("a", 65)} }},
		{"no digest", "state_digests", func(m *pb.ReportRequest) { m.Cursors = []*pb.Position{position(0, 1, 1)} }},
		{"digest alone", "state_digests", func(m *pb.ReportRequest) { m.StateDigests = [][]byte{digest} }},
		{"short digest", "state_digests[0]", func(m *pb.ReportRequest) {
			m.Cursors, m.StateDigests = []*pb.Position{position(0, 1, 1)}, [][]byte{digest[1:]}
		}},
		{"fewer begins than cursors", "past_begins", func(m *pb.ReportRequest) {
			cursors(position(0, 1, 1), position(1, 1, 1))(m)
			m.PastBegins = []uint64{0}
		}},
		{"begins alone", "past_begins", func(m *pb.ReportRequest) { m.PastBegins = []uint64{0} }},
		{"no such partition", "cursors[1].partition", cursors(position(0, 1, 1), position(64, 1, 1))},
		{"a partition far beyond", "cursors[0].partition", cursors(position(math.MaxUint32, 1, 1))},
		{"partition twice", "cursors[1].partition", cursors(position(7, 1, 1), position(7, 1, 2))},
		{"no epoch", "cursors[0]", cursors(position(7, 0, 1))},
		{"epoch without end", "cursors[0]", cursors(position(7, 1<<53, 1))},
		{"revision without end", "cursors[0]", cursors(position(7, 1, math.MaxUint64))},
		{"the highest revision there is", "cursors[0]", cursors(position(7, 1, record.MaxPosition))},
		{"the highest epoch there is", "cursors[0]", cursors(position(7, record.MaxPosition, 1))},
		{"a revision that no store can have reached", "cursors[0]", cursors(position(7, 1, record.MaxJump+1))},
		{"an epoch that no store can have reached", "cursors[0]", cursors(position(7, record.MaxJump+2, 0))},
		{"no tag", "cursors[0]", cursors(&pb.Position{Epoch: 1, Revision: 1})},
		{"long tag", "cursors[0]", cursors(&pb.Position{Epoch: 1, Revision: 1, Tag: digest})},
		{"orphans of no partition", "orphans[0].partition", orphans(64, tag)},
		{"many orphans", "orphans[0].tags", orphans(0, make([][]byte, 1025)...)},
		{"short orphan", "orphans[0].tags", orphans(0, tag[1:])},
		{"usage of no partition", "usage.partition", usage(func(b *pb.UsageBatch) { b.Partition = 64 })},
		{"usage without a number", "usage.number", usage(func(b *pb.UsageBatch) { b.Number = 0 })},
		{"much usage", "usage.counts", usage(func(b *pb.UsageBatch) { b.Counts = make([]*pb.UsageCount, 10_001) })},
		{"usage of no app", "usage.counts[0].app_id", usage(func(b *pb.UsageBatch) { b.Counts[0].AppId = "a b" })},
		{"usage of another partition", "usage.counts[0].app_id", usage(func(b *pb.UsageBatch) { b.Partition = 4 })},
		{
			"usage of a long token", "usage.counts[0].token_id",
			usage(func(b *pb.UsageBatch) { b.Counts[0].TokenId = strings.Repeat("a", 65) }),
		},
		{"usage of no scope", "usage.counts[0].scope", usage(func(b *pb.UsageBatch) { b.Counts[0].Scope = 0 })},
		{"usage of a scope far beyond", "usage.counts[0].scope", usage(func(b *pb.UsageBatch) { b.Counts[0].Scope = 64 })},
		{"usage without a reason", "usage.counts[0].reason", usage(func(b *pb.UsageBatch) { b.Counts[0].Reason = 0 })},
		{"usage without a time", "usage.counts[0].minute", usage(func(b *pb.UsageBatch) { b.Counts[0].Minute = nil })},
		{"usage of nothing", "usage.counts[0].count", usage(func(b *pb.UsageBatch) { b.Counts[0].Count = 0 })},
		{"usage without end", "usage.counts[0].count", usage(func(b *pb.UsageBatch) { b.Counts[0].Count = math.MaxUint64 })},
		{"progress of no time", "usage_progress.complete_until", func(m *pb.ReportRequest) {
			m.UsageProgress = &pb.UsageProgress{CompleteUntil: &timestamppb.Timestamp{Nanos: -1}}
		}},
		{"links of no partition", "links.partition", func(m *pb.ReportRequest) {
			m.Links = &pb.LinkBatch{
				Partition: 64,
				Last:      true,
			}
		}},
	}
	check := func(name string, err error, field string) {
		t.Helper()
		got := ""
		for _, detail := range status.Convert(err).Details() {
			if d, ok := detail.(*errdetails.BadRequest); ok {
				got = d.GetFieldViolations()[0].GetField()
			}
		}
		if status.Code(err) != codes.InvalidArgument || got != field {
			t.Errorf("%s: got %v, want INVALID_ARGUMENT for %s", name, err, field)
		}
	}
	for _, tt := range append(first, any...) {
		r := w.play(0, w.FleetKey.Reveal())
		tt.change(r.hello)
		_, err := r.send(r.hello)
		check(tt.name, err, tt.field)
		r.close()
	}
	for _, tt := range any {
		r := w.play(0, w.FleetKey.Reveal())
		if _, err := r.send(r.hello); err != nil {
			t.Fatal(err)
		}
		m := &pb.ReportRequest{Sequence: 2, DataAge: durationpb.New(0)}
		tt.change(m)
		_, err := r.send(m)
		check(tt.name+", later", err, tt.field)
		r.close()
	}
	r := w.play(0, w.FleetKey.Reveal())
	r.hello.StoreId = "another"
	if _, err := r.send(r.hello); status.Code(err) != codes.FailedPrecondition || apierr.ReasonOf(err) != "OTHER_STORE" {
		t.Errorf("a validator of another store: got %v, want OTHER_STORE", err)
	}
}

// TestB26_OnlyValidatorsReport: only the fleet key may report, and the fleet key may not list the fleet.
func TestB26_OnlyValidatorsReport(t *testing.T) {
	w := start(t, cluster.Options{})
	for key, want := range map[string]codes.Code{
		w.FleetKey.Reveal(): codes.OK, w.AdminKey.Reveal(): codes.PermissionDenied, w.ViewerKey.Reveal(): codes.PermissionDenied,
		"csadm_unknown": codes.Unauthenticated, "": codes.Unauthenticated,
	} {
		r := w.play(0, key)
		answer, err := r.send(r.hello)
		if status.Code(err) != want {
			t.Errorf("first message: got %v, want %s", err, want)
		}
		if want == codes.OK && (len(answer.GetFloor()) != 64 || answer.GetReceived() != 1) {
			t.Errorf("first response: got %v, want the floor of 64 partitions and received 1", answer)
		}
		r.close()
	}
	if _, err := w.authorities[0].ListValidators(as(t.Context(), w.FleetKey.Reveal()),
		&pb.ListValidatorsRequest{}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("listing the fleet with the fleet key: got %v, want PERMISSION_DENIED", err)
	}
}

// TestReportIsAnswered: each heartbeat gets a response at once. Other reports get none.
func TestReportIsAnswered(t *testing.T) {
	w := start(t, cluster.Options{})
	r := w.play(0, w.FleetKey.Reveal())
	if _, err := r.send(r.hello); err != nil {
		t.Fatal(err)
	}
	for sequence := uint64(2); sequence < 20; sequence++ {
		if sequence%3 != 0 {
			if err := r.stream.Send(&pb.ReportRequest{Sequence: sequence}); err != nil {
				t.Fatal(err)
			}
			continue
		}
		answer, err := r.heartbeat(sequence)
		if err != nil || !proto.Equal(answer, &pb.ReportResponse{Received: sequence}) {
			t.Fatalf("heartbeat: got %v, %v, want its sequence and nothing else", answer, err)
		}
	}
}
