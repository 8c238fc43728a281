package cli

import (
	"bytes"
	"context"
	"net"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type (
	createRequest  = countersignv1.CreateTokenRequest
	createResponse = countersignv1.CreateTokenResponse
)

// result is the result of a command line.
type result struct {
	code        int
	out, errors string
}

// run runs a command line in this process.
func run(t *testing.T, args ...string) result {
	t.Helper()
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	var out, errors bytes.Buffer
	root := newRoot(nil)
	root.SetArgs(args)
	root.SetIn(strings.NewReader(""))
	root.SetOut(&out)
	root.SetErr(&errors)
	code := execute(root)
	return result{code, out.String(), errors.String()}
}

// creates answers CreateToken.
type creates func(context.Context, *createRequest) (*createResponse, error)

// fake is an authority whose answers the test chooses.
type fake struct {
	countersignv1.UnimplementedAuthorityServiceServer
	server *grpc.Server

	mu     sync.Mutex
	create creates
	seen   []*createRequest
}

// CreateToken implements countersignv1.AuthorityServiceServer.
func (f *fake) CreateToken(ctx context.Context, r *createRequest) (*createResponse, error) {
	f.mu.Lock()
	f.seen = append(f.seen, r)
	create := f.create
	f.mu.Unlock()
	return create(ctx, r)
}

// answer changes the fake's answer.
func (f *fake) answer(create creates) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.create = create
}

// requests returns the received requests.
func (f *fake) requests() []*createRequest {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen
}

// start serves the fake, and makes the commands call it.
func (f *fake) start(t *testing.T) {
	t.Helper()
	f.serve(t, f)
}

// serve works like start, with an authority that embeds the fake.
func (f *fake) serve(t *testing.T, authority countersignv1.AuthorityServiceServer) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	f.server = server
	countersignv1.RegisterAuthorityServiceServer(server, authority)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	t.Setenv("COUNTERSIGN_AUTHORITY", listener.Addr().String())
}
