package server_test

import (
	"context"
	"log/slog"
	"runtime"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/countersign/countersign/pkg/grpcserver"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/internal/testcluster"
	"github.com/countersign/countersign/services/validator/server"
)

// TestCallAllocatesNoMoreThanItsMessages compares the real server, with all its metrics, to one that is sent the same request,
// and answers with the same response, without looking at it: what a call allocates is what grpc-go and protobuf allocate for
// such messages. A call of empty messages is counted too, for the figure. The client is the same for all: it neither encodes
// nor decodes.
func TestCallAllocatesNoMoreThanItsMessages(t *testing.T) {
	c := testcluster.Start(t, testcluster.Options{Validators: 1})
	admin := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+c.AdminKey.Reveal())
	created, err := countersignv1.NewAuthorityServiceClient(dial(t, c.Authority)).CreateToken(admin, &countersignv1.CreateTokenRequest{AppId: "app", Name: "token"})
	if err != nil {
		t.Fatal(err)
	}
	request := &countersignv1.AuthorizeRequest{AppId: "app", Token: created.GetSecret(), Scope: countersignv1.Scope_SCOPE_EVENTS}
	validator := dial(t, c.Validators[0])
	request.MinRevision = created.GetConsistencyToken()
	answer, err := countersignv1.NewValidatorServiceClient(validator).Authorize(t.Context(), request)
	if err != nil || answer.GetReason() != countersignv1.Reason_REASON_TOKEN_VALID_UNSCOPED {
		t.Fatal(answer, err)
	}
	request.MinRevision = ""

	s, err := grpcserver.New(grpcserver.Config{Listen: "127.0.0.1:0", StreamWorkers: server.StreamWorkers}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	countersignv1.RegisterValidatorServiceServer(s, same{response: answer})
	registerEmpty(s)
	serve(t, s)
	idle := dial(t, s.Addr().String())
	decided := allocations(t, validator, countersignv1.ValidatorService_Authorize_FullMethodName, request)
	undecided := allocations(t, idle, countersignv1.ValidatorService_Authorize_FullMethodName, request)
	empty := allocations(t, idle, emptyMethod, &emptypb.Empty{})
	t.Logf("in client and server: %.2f allocations for a decision, %.2f for the same messages, %.2f for empty ones", decided, undecided, empty)
	if decided > undecided+0.5 {
		t.Errorf("a decision makes %.2f allocations, %.2f more than its messages", decided, decided-undecided)
	}
}

// same answers without deciding, with a copy of a response, as a handler has to make one.
type same struct {
	countersignv1.UnimplementedValidatorServiceServer
	response *countersignv1.AuthorizeResponse
}

func (s same) Authorize(context.Context, *countersignv1.AuthorizeRequest) (*countersignv1.AuthorizeResponse, error) {
	r := s.response
	return &countersignv1.AuthorizeResponse{
		Decision: r.Decision, Reason: r.Reason, Enforced: r.Enforced, TokenId: r.TokenId, Revision: r.Revision, DataAge: r.DataAge,
	}, nil
}

// allocations returns how many allocations a call makes, in client and server.
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
	// What goes on beside the calls, such as polls of the store, is counted without them, for as long.
	began := time.Now()
	all := count(func() {
		for range calls {
			call()
		}
	})
	beside := count(func() { time.Sleep(time.Since(began)) })
	return float64(all-beside) / calls
}

// asIs is a codec of bytes.
type asIs struct{}

func (asIs) Name() string { return "proto" }
func (asIs) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}
func (asIs) Unmarshal(mem.BufferSlice, any) error { return nil }

const emptyMethod = "/countersign.test.Empty/Call"

type emptyServer interface {
	Call(ctx context.Context, request *emptypb.Empty) (*emptypb.Empty, error)
}

type empty struct{}

func (empty) Call(context.Context, *emptypb.Empty) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, nil
}

// registerEmpty registers a method of empty messages, as generated code does.
func registerEmpty(s grpc.ServiceRegistrar) {
	s.RegisterService(&grpc.ServiceDesc{ServiceName: "countersign.test.Empty", HandlerType: (*emptyServer)(nil), Methods: []grpc.MethodDesc{{
		MethodName: "Call",
		Handler: func(service any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
			request := new(emptypb.Empty)
			if err := decode(request); err != nil {
				return nil, err
			}
			return interceptor(ctx, request, &grpc.UnaryServerInfo{Server: service, FullMethod: emptyMethod}, func(ctx context.Context, request any) (any, error) {
				return service.(emptyServer).Call(ctx, request.(*emptypb.Empty))
			})
		},
	}}}, empty{})
}

func serve(t *testing.T, s *grpcserver.Server) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- s.Serve(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func dial(t *testing.T, address string) *grpc.ClientConn {
	t.Helper()
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	return connection
}
