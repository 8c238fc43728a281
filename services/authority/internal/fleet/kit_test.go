package fleet_test

import (
	"bufio"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/testkit/check"
	pb "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/test/cluster"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	applied = pb.PropagationState_PROPAGATION_STATE_APPLIED
	pending = pb.PropagationState_PROPAGATION_STATE_PENDING
	fenced  = pb.PropagationState_PROPAGATION_STATE_FENCED
	lost    = pb.PropagationState_PROPAGATION_STATE_LOST

	isReporting = pb.ValidatorState_VALIDATOR_STATE_REPORTING
	isLost      = pb.ValidatorState_VALIDATOR_STATE_LOST
	isFenced    = pb.ValidatorState_VALIDATOR_STATE_FENCED
)

// world is a cluster whose validators report, with its administrator's key.
type world struct {
	*cluster.Cluster
	t *testing.T
	// authorities has a client of each authority, with the administrator's key.
	authorities []pb.AuthorityServiceClient
}

func start(t *testing.T, options cluster.Options) *world {
	t.Helper()
	options.Report = true
	w := &world{Cluster: cluster.Start(t, options), t: t}
	for _, address := range w.Authorities {
		w.authorities = append(w.authorities, pb.NewAuthorityServiceClient(check.Dial(t, address)))
	}
	return w
}

// as returns a context for calls with a key.
func as(ctx context.Context, key string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key)
}

func (w *world) admin() context.Context { return as(w.t.Context(), w.AdminKey.Reveal()) }

// change makes a change of an app through an authority, and waits up to patience for its receipt.
func (w *world) change(authority int, app string, wait time.Duration) *pb.CreateTokenResponse {
	w.t.Helper()
	made, err := w.authorities[authority].CreateToken(w.admin(), &pb.CreateTokenRequest{
		AppId: app, Name: time.Now().String(), WaitForPropagation: durationpb.New(wait),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return made
}

// states returns the state of each validator in a receipt, by name.
func states(r *pb.Receipt) map[string]pb.PropagationState {
	all := map[string]pb.PropagationState{}
	for _, e := range r.GetValidators() {
		all[e.GetValidatorId()] = e.GetState()
	}
	return all
}

// validators returns the validators that an authority lists, by name.
func (w *world) validators(authority int) map[string]*pb.Validator {
	w.t.Helper()
	response, err := w.authorities[authority].ListValidators(w.admin(), &pb.ListValidatorsRequest{})
	if err != nil {
		w.t.Fatal(err)
	}
	all := map[string]*pb.Validator{}
	for _, v := range response.GetValidators() {
		all[v.GetValidatorId()] = v
	}
	return all
}

// raw is a validator whose messages the test sends itself.
type raw struct {
	t      *testing.T
	stream pb.FleetService_ReportClient
	hello  *pb.ReportRequest
	close  func()
}

// storeID returns the id of the cluster's store.
func (w *world) meta() record.Meta {
	w.t.Helper()
	client := w.redis()
	meta, err := client.Meta(w.t.Context(), w.Ring)
	if err != nil {
		w.t.Fatal(err)
	}
	return meta
}

// codec returns the codec of the store.
func (w *world) codec() *record.Codec { return record.NewCodec(w.Ring, w.meta()) }

// redis returns a client of the store's Redis with all rights.
func (w *world) redis() *redisfeed.Client {
	w.t.Helper()
	client, err := redisfeed.Open(w.RedisURL, redisfeed.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { client.Close() })
	return client
}

// play opens a stream of reports to an authority.
func (w *world) play(authority int, key string) *raw {
	w.t.Helper()
	ctx, cancel := context.WithCancel(as(w.t.Context(), key))
	w.t.Cleanup(cancel)
	stream, err := pb.NewFleetServiceClient(check.Dial(w.t, w.Authorities[authority])).Report(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	return &raw{t: w.t, stream: stream, close: cancel, hello: &pb.ReportRequest{
		ValidatorId: "played", InstanceId: "1", StoreId: w.meta().StoreID, StartTime: timestamppb.Now(), Sequence: 1,
		DataAge: durationpb.New(0),
	}}
}

// send sends a message and returns the answer.
func (r *raw) send(m *pb.ReportRequest) (*pb.ReportResponse, error) {
	_ = r.stream.Send(m) // if it fails, Recv returns the reason
	return r.stream.Recv()
}

// heartbeat sends a heartbeat and returns what answers it. The authority sends a floor that has changed by
// itself, between the answers.
func (r *raw) heartbeat(sequence uint64) (*pb.ReportResponse, error) {
	answer, err := r.send(&pb.ReportRequest{Sequence: sequence, DataAge: durationpb.New(0)})
	for err == nil && answer.GetReceived() == 0 {
		answer, err = r.stream.Recv()
	}
	return answer, err
}

// metric returns the value of a metric without labels.
func metric(t *testing.T, address, name string) string {
	t.Helper()
	response, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		if value, found := strings.CutPrefix(lines.Text(), name+" "); found {
			return value
		}
	}
	return "not there"
}
