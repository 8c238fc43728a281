package server_test

import (
	"context"
	"net"
	"runtime"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/countersign/countersign/pkg/testkit/check"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/test/cluster"
	"github.com/countersign/countersign/services/validator/server"
)

// TestCallAllocatesAsLittleAsAnEmptyOne compares a call of the real server, with all its metrics, with an
// empty call of a bare gRPC server. The client is the same for both: it neither encodes nor decodes.
func TestCallAllocatesAsLittleAsAnEmptyOne(t *testing.T) {
	c := cluster.Start(t, cluster.Options{Validators: 1})
	admin := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+c.AdminKey.Reveal())
	created, err := countersignv1.NewAuthorityServiceClient(check.Dial(t, c.Authority)).
		CreateToken(admin, &countersignv1.CreateTokenRequest{AppId: "app", Name: "token"})
	if err != nil {
		t.Fatal(err)
	}
	request := &countersignv1.AuthorizeRequest{
		AppId: "app", Token: created.GetSecret(), Scope: countersignv1.Scope_SCOPE_EVENTS,
	}
	validator := check.Dial(t, c.Validators[0])
	request.MinRevision = created.GetConsistencyToken()
	answer, err := countersignv1.NewValidatorServiceClient(validator).Authorize(t.Context(), request)
	if err != nil || answer.GetReason() != countersignv1.Reason_REASON_TOKEN_VALID_UNSCOPED {
		t.Fatal(answer, err)
	}
	request.MinRevision = ""

	idle := check.Dial(t, serveEmpty(t))
	decided := allocations(t, validator, countersignv1.ValidatorService_Authorize_FullMethodName, request)
	empty := allocations(t, idle, emptyMethod, &emptypb.Empty{})
	t.Logf("in client and server: %.2f allocations for a decision, %.2f for an empty call", decided, empty)
	if decided > empty+2 {
		t.Errorf("a decision makes %.2f allocations, %.2f more than an empty call", decided, decided-empty)
	}
}

// allocations returns how many allocations a call makes in client and server together.
func allocations(t *testing.T, connection *grpc.ClientConn, method string, request proto.Message) float64 {
	t.Helper()
	const calls = 20_000
	raw, err := proto.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	var in, out any = raw, new([]byte)
	call := func() {
		if err := connection.Invoke(t.Context(), method, in, out, grpc.ForceCodecV2(asIs{})); err != nil {
			t.Fatal(err)
		}
	}
	for range calls / 10 {
		call()
	}
	count := func(f func()) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		return after.Mallocs - before.Mallocs
	}
	// Background work, such as polls of the store, is counted separately for the same time.
	began := time.Now()
	all := count(func() {
		for range calls {
			call()
		}
	})
	beside := count(func() { time.Sleep(time.Since(began)) })
	return float64(all-beside) / calls
}

// asIs is a codec that passes bytes through.
type asIs struct{}

func (asIs) Name() string { return "proto" }
func (asIs) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}
func (asIs) Unmarshal(mem.BufferSlice, any) error { return nil }

const emptyMethod = "/countersign.test.Empty/Call"

// serveEmpty starts a bare gRPC server with one method, and returns its address. The handler is the same as
// a generated one.
func serveEmpty(t *testing.T) string {
	t.Helper()
	s := grpc.NewServer(grpc.NumStreamWorkers(server.StreamWorkers))
	s.RegisterService(
		&grpc.ServiceDesc{ServiceName: "countersign.test.Empty", HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{
			MethodName: "Call",
			Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
				return new(emptypb.Empty), decode(new(emptypb.Empty))
			},
		}}},
		nil,
	)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- s.Serve(listener) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return listener.Addr().String()
}
