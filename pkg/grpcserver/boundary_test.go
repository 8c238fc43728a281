package grpcserver

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/testkit/check"
)

// TestErrorsOverTheWire: a client receives the status that translate returns, from unary calls and streams,
// with and without interceptors.
func TestErrorsOverTheWire(t *testing.T) {
	byName := make(map[string]error)
	for _, tt := range translations {
		byName[tt.name] = tt.err
	}
	service := &echo{
		call: func(_ context.Context, name string) (string, error) { return "", byName[name] },
		stream: func(stream grpc.ServerStream) error {
			name, err := receive(stream)
			if err != nil {
				return err
			}
			return fmt.Errorf("%w", byName[name])
		},
	}
	for chain, options := range map[string][]grpc.ServerOption{
		"bare":  nil,
		"chain": {grpc.ChainUnaryInterceptor(passUnary), grpc.ChainStreamInterceptor(passStream)},
	} {
		server := start(t, Config{}, service, options...)
		conn := check.Dial(t, server.Addr().String())
		for _, tt := range translations {
			t.Run(chain+"/"+tt.name, func(t *testing.T) {
				_, err := call(t.Context(), conn, tt.name)
				wantError(t, err, tt.code, tt.message)
				if got := apierr.ReasonOf(err); got != tt.reason {
					t.Errorf("reason = %q, want %q", got, tt.reason)
				}
				if tt.name == "status" {
					return // the stream's handler wraps it, and a wrapped status is not passed on
				}
				wantError(t, chat(t.Context(), conn, tt.name), tt.code, tt.message)
			})
		}
		server.end()
		if err := server.wait(); err != nil {
			t.Fatal(err)
		}
		unsent := 0
		for _, tt := range translations {
			if tt.unsent {
				unsent += 2 // one call and one stream
			}
		}
		if got := len(server.logs.lines(t, "call failed")); got != unsent {
			t.Errorf("%s: %d causes were logged, want %d: each once", chain, got, unsent)
		}
	}
}

// TestStatusOf: StatusOf returns the same status for an error, and logs the same, as a call that ends with
// it. A failed request of a stream therefore shows its client no more than a failed call.
func TestStatusOf(t *testing.T) {
	server := start(t, Config{}, &echo{})
	unsent := 0
	for _, tt := range translations {
		sent := server.StatusOf(t.Context(), tt.err)
		wantError(t, sent.Err(), tt.code, tt.message)
		if got := apierr.ReasonOf(sent.Err()); got != tt.reason {
			t.Errorf("%s: reason = %q, want %q", tt.name, got, tt.reason)
		}
		if tt.unsent {
			unsent++
		}
	}
	if got := len(server.logs.lines(t, "call failed")); got != unsent {
		t.Errorf("%d causes were logged, want %d", got, unsent)
	}
}

func passUnary(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	return handler(ctx, request)
}

func passStream(service any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	return handler(service, stream)
}

func wantError(t testing.TB, err error, code codes.Code, message string) {
	t.Helper()
	got, ok := status.FromError(err)
	if !ok || got.Code() != code || !strings.Contains(got.Message(), message) {
		t.Errorf("error = %v, want %v %q", err, code, message)
	}
	if strings.Contains(got.Message(), "10.1.2.3") {
		t.Errorf("error = %v, which shows the cause", err)
	}
}

func TestCauseIsLogged(t *testing.T) {
	server := start(t, Config{}, &echo{call: func(_ context.Context, text string) (string, error) {
		switch text {
		case "domain":
			return "", apierr.Unavailable(apierr.StoreUnavailable, "store unavailable").Because(errors.New("refused"))
		case "caller":
			return "", apierr.Invalid("name", "is empty")
		}
		return "", errors.New("broken")
	}})
	conn := check.Dial(t, server.Addr().String())
	for _, text := range []string{"domain", "caller", "other"} {
		if _, err := call(t.Context(), conn, text); err == nil {
			t.Errorf("call %q succeeded", text)
		}
	}
	lines := server.logs.lines(t, "call failed")
	if len(lines) != 2 {
		t.Fatalf("logged %v, want the two errors with a cause", lines)
	}
	for i, want := range []map[string]any{
		{"level": "WARN", "method": callMethod, "code": "Unavailable", "error": "store unavailable: refused"},
		{"level": "ERROR", "method": callMethod, "code": "Internal", "error": "broken"},
	} {
		for key, value := range want {
			if lines[i][key] != value {
				t.Errorf("line %d: %s = %v, want %v", i, key, lines[i][key], value)
			}
		}
	}
}

func TestPanic(t *testing.T) {
	explode := func(where string) { panic("lost in " + where) }
	server := start(t, Config{},
		&echo{
			call: func(_ context.Context, text string) (string, error) {
				if text == "handler" {
					explode(text)
				}
				return text, nil
			},
			stream: func(grpc.ServerStream) error { explode("stream"); return nil },
		},
		grpc.ChainUnaryInterceptor(func(
			ctx context.Context, request any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
		) (any, error) {
			response, err := handler(ctx, request)
			if err != nil && status.Code(err) != codes.Internal {
				t.Errorf("the interceptor sees a panic as %v, want INTERNAL", err)
			}
			if err == nil && fmt.Sprint(request) == `value:"interceptor"` {
				explode("interceptor")
			}
			return response, err
		}))
	conn := check.Dial(t, server.Addr().String())

	for _, where := range []string{"handler", "interceptor"} {
		_, err := call(t.Context(), conn, where)
		wantError(t, err, codes.Internal, "internal error")
	}
	wantError(t, chat(t.Context(), conn, ""), codes.Internal, "internal error")
	if got, err := call(t.Context(), conn, "still here"); err != nil || got != "still here" {
		t.Errorf("call after panics = %q, %v", got, err)
	}

	lines := server.logs.lines(t, "panic in a call")
	if len(lines) != 3 {
		t.Fatalf("%d panics were logged, want 3", len(lines))
	}
	for i, want := range []struct{ method, value string }{
		{callMethod, "lost in handler"}, {callMethod, "lost in interceptor"}, {chatMethod, "lost in stream"},
	} {
		if lines[i]["method"] != want.method || lines[i]["panic"] != want.value {
			t.Errorf("line %d = %v, want %v", i, lines[i], want)
		}
		if stack := fmt.Sprint(lines[i]["stack"]); !strings.Contains(stack, "TestPanic") {
			t.Errorf("line %d has a stack without the function that panicked:\n%s", i, stack)
		}
	}
}
