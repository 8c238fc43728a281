package fleet_test

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	"github.com/countersign/countersign/pkg/testkit/testport"
	pb "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/authority/internal/ledger"
	"github.com/countersign/countersign/services/authority/server"
	"github.com/countersign/countersign/services/store"
	"github.com/countersign/countersign/services/test/cluster"
)

// counts returns a ledger that reads the usage counts of a Redis.
func (w *world) counts(url string) *ledger.Ledger {
	w.t.Helper()
	client, err := redisfeed.Open(url, redisfeed.Options{})
	check.NoError(w.t, err)
	w.t.Cleanup(func() { client.Close() })
	return ledger.New(ledger.Config{
		Storage: store.NewCounts(client, w.meta().StoreID), Partitions: w.meta().Partitions,
		Metrics: ledger.NewMetrics(prometheus.NewRegistry()),
		Log:     slog.New(slog.DiscardHandler),
	})
}

// sumsOf returns the decisions about an app in the last hour, by reason.
func sumsOf(t *testing.T, of *ledger.Ledger, app string) map[policy.Reason]uint64 {
	t.Helper()
	h := check.Must(of.App(t.Context(), app))(t)
	sums, _ := h.Sums(time.Now().Add(-time.Hour))
	all := map[policy.Reason]uint64{}
	for _, s := range sums {
		all[s.Reason] += s.N
	}
	return all
}

// hand sends a batch and returns the answer to it.
func (r *raw) hand(sequence uint64, batch *pb.UsageBatch, progress *pb.UsageProgress) uint64 {
	r.t.Helper()
	m := &pb.ReportRequest{Sequence: sequence, Usage: batch, UsageProgress: progress}
	for {
		answer, err := r.send(m)
		if err != nil {
			r.t.Fatal(err)
		}
		if answer.UsagePartition != nil {
			if answer.GetUsagePartition() != batch.GetPartition() {
				r.t.Errorf("%v", answer)
			}
			return answer.GetUsageAcknowledged()
		}
		m = &pb.ReportRequest{Sequence: sequence + 1} // one that is not answered
	}
}

// TestB21_BatchesAreCountedOnce: a batch that is repeated, also to another authority, is counted once. How
// far the counts are complete is stored; that they have ended, only when the validator says so.
func TestB21_BatchesAreCountedOnce(t *testing.T) {
	w := start(t, cluster.Options{Authorities: 2})
	made := w.change(0, "app", time.Millisecond)
	partition := uint32(w.codec().PartitionOf("app"))
	batch := func(number uint64) *pb.UsageBatch {
		return &pb.UsageBatch{Number: number, Partition: partition, Oldest: number == 1, Counts: []*pb.UsageCount{
			{AppId: "app", Scope: 1, Reason: pb.Reason_REASON_TOKEN_MISSING, Minute: timestamppb.Now(), Count: 3},
			{
				AppId: "app", TokenId: made.GetToken().GetTokenId(), Scope: 1, Reason: pb.Reason_REASON_TOKEN_VALID_UNSCOPED,
				Minute: timestamppb.Now(), Count: 4,
			},
		}}
	}
	counts := w.counts(w.RedisURL)
	until := time.Now().UTC().Truncate(time.Millisecond)
	for authority := range 2 {
		r := w.play(authority, w.FleetKey.Reveal())
		r.hello.Sequence = uint64(10*authority + 1)
		check.Must(r.send(r.hello))(t)
		progress := &pb.UsageProgress{CompleteUntil: timestamppb.New(until), Dropped: 5}
		for i, number := range []uint64{1, 1, 2} {
			if got := r.hand(uint64(10*authority+2*i+2), batch(number), progress); got != max(number, uint64(2*authority)) {
				t.Errorf("authority %d has counted up to %d after batch %d", authority, got, number)
			}
		}
		r.close()
	}
	if got := sumsOf(t, counts, "app"); len(got) != 2 || got[policy.TokenMissing] != 6 || got[policy.TokenValidUnscoped] != 8 {
		t.Errorf("%v", got)
	}
	h := check.Must(counts.App(t.Context(), "app"))(t)
	if uses := h.LastUses(); len(uses) != 1 || uses[0].TokenID != made.GetToken().GetTokenId() {
		t.Errorf("B22: %v", uses)
	}
	coverage := func(final bool) func() error {
		return func() error {
			all, _, err := counts.Coverage(t.Context())
			if err != nil || len(all) != 1 {
				return fmt.Errorf("%v, %w", all, err)
			}
			if c := all[0]; c.ValidatorID != "played" || c.InstanceID != "1" || !c.Until.Equal(until) || c.Dropped != 5 ||
				c.Final != final || c.Start.IsZero() {
				return fmt.Errorf("%+v", c)
			}
			return nil
		}
	}
	check.Eventually(t, "the coverage", coverage(false))
	r := w.play(1, w.FleetKey.Reveal())
	r.hello.Leaving, r.hello.Sequence = true, 100
	r.hello.UsageProgress = &pb.UsageProgress{CompleteUntil: timestamppb.New(until), Dropped: 5, Final: true}
	_, _ = r.send(r.hello)
	check.Eventually(t, "the end of the coverage", coverage(true))
}

// TestB21_EveryDecisionOfTheFleetIsCounted: what validators decide is counted, until they leave, and then the
// counts are complete.
func TestB21_EveryDecisionOfTheFleetIsCounted(t *testing.T) {
	w := start(t, cluster.Options{Validators: 2, Authorities: 2})
	made := w.change(0, "app", 5*time.Second)
	for i, address := range w.Validators {
		client := pb.NewValidatorServiceClient(check.Dial(t, address))
		for n := range 10 * (i + 1) {
			question := &pb.AuthorizeRequest{AppId: "app", Scope: pb.Scope_SCOPE_EVENTS, MinRevision: made.GetConsistencyToken()}
			if n%2 == 0 {
				question.Token = made.GetSecret()
			}
			check.Must(client.Authorize(t.Context(), question))(t)
		}
	}
	for _, p := range w.ValidatorProcesses {
		p.Stop()
	}
	counts := w.counts(w.RedisURL)
	got := sumsOf(t, counts, "app")
	if len(got) != 2 || got[policy.TokenMissing] != 15 || got[policy.TokenValidUnscoped] != 15 {
		t.Errorf("%v", got)
	}
	all, _, err := counts.Coverage(t.Context())
	check.NoError(t, err)
	if len(all) != 2 {
		t.Fatalf("%v", all)
	}
	for _, c := range all {
		if !c.Final || time.Since(c.Until) > time.Minute || c.Until.Before(c.Start) {
			t.Errorf("%+v", c)
		}
	}
}

// TestB21_AnotherRedisForCounts: counts go to the Redis of --usage-redis-url and to no other. While it is
// away, changes, reports and receipts go on.
func TestB21_AnotherRedisForCounts(t *testing.T) {
	w := start(t, cluster.Options{})
	other := redistest.Start(t)
	nowhere := redistest.URL(fmt.Sprint("127.0.0.1:", testport.Free(t)), "", "")
	for name, url := range map[string]string{"there": other.URL(), "away": nowhere} {
		p := w.StartAuthorityWith(t, "127.0.0.1:0", func(c *server.Config) { c.UsageRedisURL = url })
		client := pb.NewAuthorityServiceClient(check.Dial(t, p.Address))
		check.Eventually(t, "the authority", func() error {
			_, err := client.CreateToken(w.admin(), &pb.CreateTokenRequest{
				AppId: name, Name: time.Now().String(), WaitForPropagation: durationpb.New(time.Second),
			})
			return err
		})
		w.Authorities[0] = p.Address
		r := w.play(0, w.FleetKey.Reveal())
		r.hello.ValidatorId = name
		check.Eventually(t, "the stream", func() error {
			if _, err := r.send(r.hello); err != nil {
				r = w.play(0, w.FleetKey.Reveal())
				r.hello.ValidatorId = name
				return err
			}
			return nil
		})
		batch := &pb.UsageBatch{
			Number: 1, Partition: uint32(w.codec().PartitionOf(name)), Oldest: true,
			Counts: []*pb.UsageCount{{
				AppId: name, Scope: 1, Reason: pb.Reason_REASON_TOKEN_MISSING, Minute: timestamppb.Now(), Count: 3,
			}},
		}
		if name == "there" {
			if r.hand(2, batch, nil) != 1 {
				t.Error("not counted")
			}
			if got := sumsOf(t, w.counts(url), name); got[policy.TokenMissing] != 3 {
				t.Errorf("%v", got)
			}
			if got := sumsOf(t, w.counts(w.RedisURL), name); len(got) > 0 {
				t.Errorf("the Redis of the store has %v", got)
			}
			continue
		}
		check.NoError(t, r.stream.Send(&pb.ReportRequest{Sequence: 2, Usage: batch, UsageProgress: &pb.UsageProgress{}}))
		for sequence := range uint64(5) {
			answer := check.Must(r.heartbeat(3 + sequence))(t)
			if answer.UsagePartition != nil || answer.GetReceived() != 3+sequence {
				t.Errorf("heartbeat %d: acknowledged %v, received %d", 3+sequence, answer.UsagePartition, answer.GetReceived())
			}
		}
	}
}
