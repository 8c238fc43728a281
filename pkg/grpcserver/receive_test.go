package grpcserver

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/testkit/rawgrpc"
	"github.com/countersign/countersign/pkg/testkit/redistest"
)

var bounds = Requests{MaxCalls: 2, MaxBytes: 2 * AuthorizeMaxReceive}

// TestInterceptorsRunBeforeTheMessage: a call that an interceptor refuses is answered by its header alone, and takes nothing of
// the bounds: more than they allow for are refused.
func TestInterceptorsRunBeforeTheMessage(t *testing.T) {
	var seen atomic.Int32
	server := start(t, Config{Requests: bounds}, &echo{call: func(context.Context, string) (string, error) {
		t.Error("the call went through")
		return "", nil
	}}, grpc.ChainUnaryInterceptor(func(_ context.Context, request any, info *grpc.UnaryServerInfo, _ grpc.UnaryHandler) (any, error) {
		if request != nil || info.FullMethod != callMethod {
			t.Errorf("intercepted %v of %s", request, info.FullMethod)
		}
		seen.Add(1)
		return nil, apierr.Unauthenticated("who are you?")
	}))
	conn := rawgrpc.Dial(t, server.Addr().String())
	for range 10 * bounds.MaxCalls {
		call := conn.Open(callMethod)
		if code, words := conn.Status(call); code != "16" || words != "who are you?" {
			t.Fatalf("a call of which only the header was sent: %s %s", code, words)
		}
	}
	if int(seen.Load()) != 10*bounds.MaxCalls {
		t.Errorf("%d calls were seen", seen.Load())
	}
}

// TestRequestsAreBounded over all connections, in calls and in bytes.
func TestRequestsAreBounded(t *testing.T) {
	t.Run("calls", func(t *testing.T) {
		inside, release := make(chan struct{}), make(chan struct{})
		server := start(t, Config{Requests: bounds}, &echo{call: func(_ context.Context, text string) (string, error) {
			inside <- struct{}{}
			<-release
			return text, nil
		}})
		ended := make(chan error, bounds.MaxCalls)
		for range bounds.MaxCalls {
			conn := dial(t, server.Addr().String())
			go func() {
				_, err := call(t.Context(), conn, "x")
				ended <- err
			}()
			<-inside
		}
		_, err := call(t.Context(), dial(t, server.Addr().String()), "x")
		if status.Code(err) != codes.ResourceExhausted || apierr.ReasonOf(err) != apierr.Overloaded {
			t.Errorf("one call more = %v", err)
		}
		close(release)
		for range bounds.MaxCalls {
			if err := <-ended; err != nil {
				t.Errorf("a call within the bound = %v", err)
			}
		}
	})
	t.Run("bytes", func(t *testing.T) {
		// One call holds half of what may be held, small ones take what they are and no more, and a larger one leaves too
		// little for the message of another.
		const most = 2*AuthorizeMaxReceive + 100
		inside, release := make(chan struct{}), make(chan struct{})
		server := start(t, Config{Requests: Requests{MaxCalls: 10, MaxBytes: most}},
			&echo{call: func(_ context.Context, text string) (string, error) {
				inside <- struct{}{}
				<-release
				return "", nil
			}})
		conn := dial(t, server.Addr().String())
		ended := make(chan error, 10)
		ask := func(size int) {
			go func() {
				_, err := call(t.Context(), conn, strings.Repeat("x", size))
				ended <- err
			}()
		}
		for _, size := range []int{AuthorizeMaxReceive - 10, 10, 10, 10, 10, 200} {
			ask(size)
			<-inside
		}
		ask(10)
		redistest.Eventually(t, "a call waits for room", func() error {
			// One byte is free, but not for a call that comes after one that waits.
			if server.requests.bytes.TryAcquire(1) {
				server.requests.bytes.Release(1)
				return errors.New("none does")
			}
			return nil
		})
		close(release)
		<-inside
		for range 7 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		if !server.requests.bytes.TryAcquire(most) {
			t.Error("something was not given back")
		}
	})
	for name, config := range map[string]Config{
		"no room for a message": {MaxReceive: 100, Requests: Requests{MaxCalls: 1, MaxBytes: 99}},
		"no call":               {Requests: Requests{MaxBytes: 1 << 20}},
		"connections":           {MaxConnections: -1},
	} {
		config.Listen = loopback(t)
		if _, err := New(config, new(logs).logger()); err == nil || !strings.Contains(err.Error(), "want") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestMessageThatNeverComes: a call whose header comes and whose message does not is ended, and so is one to the services that
// are open to anyone.
func TestMessageThatNeverComes(t *testing.T) {
	for name, method := range map[string]string{
		"a call": callMethod, "health": healthpb.Health_Check_FullMethodName, "a watch": healthpb.Health_Watch_FullMethodName,
		"reflection": reflectionpb.ServerReflection_ServerReflectionInfo_FullMethodName,
	} {
		for part, announced := range map[string]bool{"nothing": false, "a part": true} {
			t.Run(name+" with "+part, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					server := startConfigured(t, Config{Requests: bounds, Reflection: true}, &echo{call: repeat})
					raw, err := server.listener.DialContext(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					conn := rawgrpc.New(t, raw)
					began := time.Now()
					call := conn.Open(method)
					if announced {
						conn.Announce(call, 100)
					}
					code, words := conn.Status(call)
					if took := time.Since(began); code != "8" || !strings.Contains(words, "did not arrive within 10 s") || took != messageTimeout {
						t.Errorf("%s %s after %v", code, words, took)
					}
					synctest.Wait()
					if !server.requests.bytes.TryAcquire(bounds.MaxBytes) || !server.requests.calls.TryAcquire(int64(bounds.MaxCalls)) {
						t.Error("something was not given back")
					}
					_ = raw.Close()
					if _, err := server.drained(); err != nil {
						t.Error(err)
					}
				})
			})
		}
	}
}

// TestOpenServicesTakeOnlySmallMessages: they are refused by the size that is announced, before anything of them is read,
// although other services take larger ones.
func TestOpenServicesTakeOnlySmallMessages(t *testing.T) {
	server := start(t, Config{MaxReceive: ManagementMaxReceive, Reflection: true}, &echo{call: repeat})
	for _, method := range []string{
		healthpb.Health_Check_FullMethodName, healthpb.Health_Watch_FullMethodName,
		reflectionpb.ServerReflection_ServerReflectionInfo_FullMethodName,
	} {
		conn := rawgrpc.Dial(t, server.Addr().String())
		call := conn.Open(method)
		conn.Announce(call, openMaxReceive+1)
		if code, words := conn.Status(call); code != "8" || !strings.Contains(words, "want at most 4096") {
			t.Errorf("%s: %s %s", method, code, words)
		}
		call = conn.Open(method)
		conn.Send(call, []byte{1, 0, 0, 0, 9})
		if code, words := conn.Status(call); code != "12" {
			t.Errorf("%s, compressed: %s %s", method, code, words)
		}
		call = conn.Open(method)
		conn.Send(call, []byte{0, 0, 0, 0, 1, 0xff})
		if code, words := conn.Status(call); code != "3" {
			t.Errorf("%s, with garbage: %s %s", method, code, words)
		}
	}
}

// TestConnectionsAreBounded: one more than may be open is closed as it comes, and counted.
func TestConnectionsAreBounded(t *testing.T) {
	server := start(t, Config{MaxConnections: 1}, &echo{call: repeat})
	first := dial(t, server.Addr().String())
	if _, err := call(t.Context(), first, "x"); err != nil {
		t.Fatal(err)
	}
	raw, err := net.Dial("tcp", server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if n, err := raw.Read(make([]byte, 1)); err == nil {
		t.Errorf("the second connection is served %d bytes", n)
	}
	if server.RefusedConnections() != 1 || server.Connections() != 1 {
		t.Errorf("%d refused, %d open", server.RefusedConnections(), server.Connections())
	}
	_ = first.Close()
	redistest.Eventually(t, "room for another", func() error {
		_, err := call(t.Context(), dial(t, server.Addr().String()), "x")
		return err
	})
}
