package client_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/countersign/countersign/pkg/client"
	"github.com/countersign/countersign/pkg/secret"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type serverStream = grpc.BidiStreamingServer[countersignv1.AuthorizeStreamRequest, countersignv1.AuthorizeStreamResponse]

// fake is a validator that serves calls. It also serves streams if the field stream is set.
type fake struct {
	countersignv1.UnimplementedValidatorServiceServer
	countersignv1.UnimplementedBulkValidatorServiceServer
	stream         func(serverStream) error
	call           func(context.Context, *countersignv1.AuthorizeRequest) (*countersignv1.AuthorizeResponse, error)
	calls, streams atomic.Int64
}

func (f *fake) Authorize(ctx context.Context, r *countersignv1.AuthorizeRequest) (*countersignv1.AuthorizeResponse, error) {
	f.calls.Add(1)
	if f.call != nil {
		return f.call(ctx, r)
	}
	return echo(r), nil
}

func (f *fake) AuthorizeStream(s serverStream) error {
	f.streams.Add(1)
	if f.stream != nil {
		return f.stream(s)
	}
	return f.UnimplementedBulkValidatorServiceServer.AuthorizeStream(s)
}

// echo returns an approval that names the question's token.
func echo(r *countersignv1.AuthorizeRequest) *countersignv1.AuthorizeResponse {
	return &countersignv1.AuthorizeResponse{
		Decision: allow, Reason: countersignv1.Reason_REASON_TOKEN_VALID, TokenId: r.GetToken(),
	}
}

func echoed(r *countersignv1.AuthorizeRequest) *countersignv1.AuthorizeStreamResult {
	return &countersignv1.AuthorizeStreamResult{Result: &countersignv1.AuthorizeStreamResult_Response{Response: echo(r)}}
}

// each serves a stream. It answers each question with the result of a function, and does not answer when the
// result is nil.
func each(answer func(*countersignv1.AuthorizeRequest) *countersignv1.AuthorizeStreamResult) func(serverStream) error {
	return func(s serverStream) error {
		for {
			m, err := s.Recv()
			if err != nil {
				return err
			}
			response := &countersignv1.AuthorizeStreamResponse{Sequence: 1 << 63} // no question's number
			for i, r := range questions(m) {
				if a := answer(r); a != nil {
					a.Sequence = m.GetSequence() + uint64(i)
					response.More = append(response.More, a)
				}
			}
			if err := s.Send(response); err != nil {
				return err
			}
		}
	}
}

// questions returns the questions in a message, in the order of their numbers.
func questions(m *countersignv1.AuthorizeStreamRequest) []*countersignv1.AuthorizeRequest {
	return append([]*countersignv1.AuthorizeRequest{m.GetRequest()}, m.GetMore()...)
}

// serve runs a validator until the test ends, and returns a connection to it.
func serve(t testing.TB, f *fake) *grpc.ClientConn {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer(grpc.MaxRecvMsgSize(64 << 10))
	countersignv1.RegisterValidatorServiceServer(server, f)
	countersignv1.RegisterBulkValidatorServiceServer(server, f)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	connection, err := grpc.NewClient("passthrough:///validator", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = connection.Close()
		server.Stop()
		<-served
	})
	return connection
}

// streaming returns a client of a validator, and closes it when the test ends.
func streaming(t testing.TB, f *fake, options client.StreamOptions) *client.Client {
	t.Helper()
	c := client.NewStreaming(serve(t, f), options)
	t.Cleanup(c.Close)
	return c
}

// ask asks a question with a token, which the answer must repeat.
func ask(ctx context.Context, t testing.TB, c *client.Client, token string) error {
	t.Helper()
	answer, err := c.Authorize(
		ctx, client.Request{AppID: "app1", Token: secret.New(token), Scope: countersignv1.Scope_SCOPE_EVENTS},
	)
	if err == nil && (!answer.Allow || answer.TokenID != token) {
		t.Errorf("asked with token %q, got answer %+v", token, answer)
	}
	return err
}
