package grpcserver

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/countersign/countersign/pkg/testkit/testport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo is the service under test. A test sets what its methods do.
type echo struct {
	call   func(ctx context.Context, text string) (string, error)
	stream func(stream grpc.ServerStream) error
}

const (
	echoService = "test.Echo"
	callMethod  = "/test.Echo/Call"
	chatMethod  = "/test.Echo/Chat"
)

var chatStream = &grpc.StreamDesc{StreamName: "Chat", ServerStreams: true, ClientStreams: true}

var echoDesc = grpc.ServiceDesc{
	ServiceName: echoService,
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{MethodName: "Call", Handler: func(
		service any, ctx context.Context, decode func(any) error, chain grpc.UnaryServerInterceptor,
	) (any, error) {
		request := new(wrapperspb.StringValue)
		if err := decode(request); err != nil {
			return nil, err
		}
		handler := func(ctx context.Context, request any) (any, error) {
			text, err := service.(*echo).call(ctx, request.(*wrapperspb.StringValue).GetValue())
			return wrapperspb.String(text), err
		}
		if chain == nil {
			return handler(ctx, request)
		}
		return chain(ctx, request, &grpc.UnaryServerInfo{Server: service, FullMethod: callMethod}, handler)
	}}},
	Streams: []grpc.StreamDesc{{
		StreamName: "Chat", ServerStreams: true, ClientStreams: true,
		Handler: func(service any, stream grpc.ServerStream) error { return service.(*echo).stream(stream) },
	}},
}

func repeat(_ context.Context, text string) (string, error) { return text, nil }

func loopback(t testing.TB) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(testport.Free(t)))
}

// running is a server on loopback that ends with the test.
type running struct {
	*Server
	logs *logs
	// end begins the drain, wait returns the error of Serve.
	end  context.CancelFunc
	wait func() error
}

func start(t testing.TB, config Config, service *echo, options ...grpc.ServerOption) running {
	t.Helper()
	logs := new(logs)
	config.Listen = loopback(t)
	server, err := New(config, logs.logger(), options...)
	if err != nil {
		t.Fatal(err)
	}
	server.RegisterService(&echoDesc, service)
	end, wait := serve(t, server.Serve)
	return running{Server: server, logs: logs, end: end, wait: wait}
}

// serve runs the function until the test ends or calls end; wait returns its error.
func serve(t testing.TB, function func(context.Context) error) (end context.CancelFunc, wait func() error) {
	ctx, end := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- function(ctx) }()
	wait = sync.OnceValue(func() error { return <-served })
	t.Cleanup(func() {
		end()
		if err := wait(); err != nil {
			t.Errorf("Serve = %v", err)
		}
	})
	return end, wait
}

func call(ctx context.Context, conn *grpc.ClientConn, text string, options ...grpc.CallOption) (string, error) {
	response := new(wrapperspb.StringValue)
	err := conn.Invoke(ctx, callMethod, wrapperspb.String(text), response, options...)
	return response.GetValue(), err
}

// chat opens a stream, sends one message and returns the error that ends the stream.
func chat(ctx context.Context, conn *grpc.ClientConn, text string) error {
	stream, err := conn.NewStream(ctx, chatStream, chatMethod)
	if err != nil {
		return err
	}
	// When SendMsg fails it returns io.EOF; RecvMsg returns the reason.
	_ = stream.SendMsg(wrapperspb.String(text))
	for {
		if err := stream.RecvMsg(new(wrapperspb.StringValue)); err != nil {
			return err
		}
	}
}

// logs collects log lines as JSON.
type logs struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logs) logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// lines returns the log lines that have the message.
func (l *logs) lines(t testing.TB, message string) []map[string]any {
	t.Helper()
	var found []map[string]any
	decoder := json.NewDecoder(bytes.NewReader([]byte(l.String())))
	for decoder.More() {
		var line map[string]any
		if err := decoder.Decode(&line); err != nil {
			t.Fatal(err)
		}
		if line["msg"] == message {
			found = append(found, line)
		}
	}
	return found
}

func receive(stream grpc.ServerStream) (string, error) {
	message := new(wrapperspb.StringValue)
	err := stream.RecvMsg(message)
	return message.GetValue(), err
}
