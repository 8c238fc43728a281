package load

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	allow = countersignv1.Decision_DECISION_ALLOW
	deny  = countersignv1.Decision_DECISION_DENY
)

// fake is a validator over a real server of grpc-go.
type fake struct {
	countersignv1.UnimplementedValidatorServiceServer
	address string
	// answer answers a request. Nil answers ALLOW for app ids that begin with a, and DENY for others.
	answer func(context.Context, *countersignv1.AuthorizeRequest) (*countersignv1.AuthorizeResponse, error)
	calls  atomic.Int64
}

// Authorize implements countersignv1.ValidatorServiceServer.
func (f *fake) Authorize(ctx context.Context, r *countersignv1.AuthorizeRequest) (*countersignv1.AuthorizeResponse, error) {
	f.calls.Add(1)
	if f.answer != nil {
		return f.answer(ctx, r)
	}
	if r.GetAppId()[0] == 'a' {
		return &countersignv1.AuthorizeResponse{
			Decision: allow, Reason: countersignv1.Reason_REASON_TOKEN_VALID, TokenId: "tok_1",
		}, nil
	}
	return &countersignv1.AuthorizeResponse{Decision: deny, Reason: countersignv1.Reason_REASON_TOKEN_UNKNOWN}, nil
}

// serve serves until the test ends.
func (f *fake) serve(t *testing.T, options ...grpc.ServerOption) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.address = listener.Addr().String()
	server := grpc.NewServer(options...)
	countersignv1.RegisterValidatorServiceServer(server, f)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

// call connects to the fake.
func (f *fake) call(t *testing.T, connections int, transport credentials.TransportCredentials) *Unary {
	t.Helper()
	if transport == nil {
		transport = insecure.NewCredentials()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	endpoint := Endpoint{Address: f.address, Method: AuthorizeMethod, Credentials: transport, Decode: DecodeAuthorize}
	u, err := NewUnary(ctx, endpoint, connections)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = u.Close() })
	return u
}

// questions returns a question about each app. A fake without an answer function answers all of them
// correctly.
func questions(t *testing.T, apps ...string) *Deck {
	t.Helper()
	var all []Question
	for _, app := range apps {
		want := Answer{deny, countersignv1.Reason_REASON_TOKEN_UNKNOWN}
		if app[0] == 'a' {
			want = Answer{allow, countersignv1.Reason_REASON_TOKEN_VALID}
		}
		q, err := NewQuestion(&countersignv1.AuthorizeRequest{
			AppId: app, Token: "cs_secret", Scope: countersignv1.Scope_SCOPE_EVENTS,
		}, want)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, q)
	}
	return NewDeck(all, 1)
}
