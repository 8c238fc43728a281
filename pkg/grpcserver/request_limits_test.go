package grpcserver

import (
	"context"
	"errors"
	"fmt"
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
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/rawgrpc"
)

var bounds = RequestLimits{MaxCalls: 2, MaxBytes: 2 * AuthorizeMaxReceive}

// TestInterceptorsRunBeforeTheMessage: a call that an interceptor rejects is answered without its message,
// and takes no slot: more such calls than slots are answered.
func TestInterceptorsRunBeforeTheMessage(t *testing.T) {
	var seen atomic.Int32
	server := start(t, Config{RequestLimits: bounds}, &echo{call: func(context.Context, string) (string, error) {
		t.Error("the handler was called")
		return "", nil
	}}, grpc.ChainUnaryInterceptor(func(
		_ context.Context, request any, info *grpc.UnaryServerInfo, _ grpc.UnaryHandler,
	) (any, error) {
		if request != nil || info.FullMethod != callMethod {
			t.Errorf("intercepted %v of %s", request, info.FullMethod)
		}
		seen.Add(1)
		return nil, apierr.Unauthenticated("who are you?")
	}))
	conn := rawgrpc.Dial(t, server.Addr().String())
	for range 10 * bounds.MaxCalls {
		call := conn.Open(callMethod)
		if code, text := conn.Status(call); code != "16" || text != "who are you?" {
			t.Fatalf("a call that sent only its header: %s %s", code, text)
		}
	}
	if int(seen.Load()) != 10*bounds.MaxCalls {
		t.Errorf("%d calls were intercepted", seen.Load())
	}
}

// TestRequestsAreBounded: calls in flight and bytes of large messages are bounded over all connections.
func TestRequestsAreBounded(t *testing.T) {
	t.Run("calls", func(t *testing.T) {
		inside, release := make(chan struct{}), make(chan struct{})
		server := start(t, Config{RequestLimits: bounds}, &echo{call: func(_ context.Context, text string) (string, error) {
			inside <- struct{}{}
			<-release
			return text, nil
		}})
		ended := make(chan error, bounds.MaxCalls)
		for range bounds.MaxCalls {
			conn := check.Dial(t, server.Addr().String())
			go func() {
				_, err := call(t.Context(), conn, "x")
				ended <- err
			}()
			<-inside
		}
		_, err := call(t.Context(), check.Dial(t, server.Addr().String()), "x")
		if status.Code(err) != codes.ResourceExhausted || apierr.ReasonOf(err) != apierr.Overloaded {
			t.Errorf("a call above the bound = %v", err)
		}
		close(release)
		for range bounds.MaxCalls {
			if err := <-ended; err != nil {
				t.Errorf("a call within the bound = %v", err)
			}
		}
	})
	t.Run("bytes", func(t *testing.T) {
		// Two large messages leave too few bytes for a third, which waits. Small ones never wait.
		const large = 1 << 20
		inside, release := make(chan struct{}), make(chan struct{})
		limits := RequestLimits{MaxCalls: 10, MaxBytes: 2*large + 100, Large: []string{callMethod}}
		server := start(t, Config{MaxReceive: large, RequestLimits: limits}, &echo{
			call: func(_ context.Context, text string) (string, error) {
				inside <- struct{}{}
				<-release
				return "", nil
			},
		})
		conn := check.Dial(t, server.Addr().String())
		ended := make(chan error, 10)
		ask := func(size int) {
			go func() {
				_, err := call(t.Context(), conn, strings.Repeat("x", size))
				ended <- err
			}()
		}
		for _, size := range []int{large - 10, 10, large - 10, AuthorizeMaxReceive - 10} {
			ask(size)
			<-inside
		}
		ask(AuthorizeMaxReceive)
		check.Eventually(t, "a call waits for bytes", func() error {
			// Bytes are free, but a semaphore grants none to others while a call waits.
			if server.requests.bytes.TryAcquire(1) {
				server.requests.bytes.Release(1)
				return errors.New("no call waits")
			}
			return nil
		})
		ask(10)
		<-inside
		close(release)
		<-inside
		for range 6 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		if !server.requests.bytes.TryAcquire(2*large + 100) {
			t.Error("bytes or slots were not released")
		}
	})
	for name, config := range map[string]Config{
		"no room for a message": {MaxReceive: 100, RequestLimits: RequestLimits{MaxCalls: 1, MaxBytes: 99}},
		"no call":               {RequestLimits: RequestLimits{MaxBytes: 1 << 20}},
		"connections":           {MaxConnections: -1},
	} {
		config.Listen = loopback(t)
		if _, err := New(config, new(logs).logger()); err == nil || !strings.Contains(err.Error(), "want") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestCallsWithoutAMessageHoldNothing: many calls that have sent nothing, or a part of a small message, do
// not keep other calls from being answered.
func TestCallsWithoutAMessageHoldNothing(t *testing.T) {
	server := start(t, Config{RequestLimits: bounds}, &echo{call: repeat})
	for name, announced := range map[string]uint32{"headers": 0, "a part": AuthorizeMaxReceive} {
		conn := rawgrpc.Dial(t, server.Addr().String())
		var last uint32
		for range 10 * bounds.MaxCalls {
			last = conn.Open(callMethod)
			if announced > 0 {
				conn.Announce(last, announced)
			}
		}
		// The frames of a connection are read in order: an answer to this call shows that the others arrived.
		health := conn.Open(healthpb.Health_Check_FullMethodName)
		conn.Announce(health, 0)
		conn.Status(health)
		ctx, cancel := context.WithTimeout(t.Context(), messageTimeout/2)
		if _, err := call(ctx, check.Dial(t, server.Addr().String()), "x"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
	}
}

// TestLargeMessagesAreForSomeMethods: a message that is too large for its method is rejected by its length,
// before its content arrives.
func TestLargeMessagesAreForSomeMethods(t *testing.T) {
	limits := RequestLimits{MaxCalls: 1, MaxBytes: 1 << 20, Large: []string{chatMethod}}
	server := start(t, Config{MaxReceive: 1 << 20, RequestLimits: limits}, &echo{
		call:   repeat,
		stream: func(stream grpc.ServerStream) error { _, err := receive(stream); return err },
	})
	conn := rawgrpc.Dial(t, server.Addr().String())
	for method, most := range map[string]uint32{callMethod: streamWindow, chatMethod: 1 << 20} {
		call := conn.Open(method)
		conn.Announce(call, most+1)
		if code, text := conn.Status(call); code != "8" || !strings.Contains(text, fmt.Sprintf("want at most %d", most)) {
			t.Errorf("%s: %s %s", method, code, text)
		}
	}
	if !server.requests.bytes.TryAcquire(1 << 20) {
		t.Error("bytes or slots were not released")
	}
}

// TestLargeMessagesOfStreamsCount: large messages that are announced and never arrive reserve at most
// MaxBytes, and for at most messageTimeout. A stream that sends nothing may stay open.
func TestLargeMessagesOfStreamsCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const large = 1 << 20
		limits := RequestLimits{MaxCalls: 1, MaxBytes: 2 * large, Large: []string{chatMethod}}
		server := startConfigured(t, Config{MaxReceive: large, RequestLimits: limits}, &echo{
			stream: func(stream grpc.ServerStream) error {
				for {
					if _, err := receive(stream); err != nil {
						return err
					}
				}
			},
		})
		raw, err := server.listener.DialContext(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		conn := rawgrpc.New(t, raw)
		began := time.Now()
		var streams []uint32
		for range 5 {
			stream := conn.Open(chatMethod)
			conn.Announce(stream, 0)
			streams = append(streams, stream)
		}
		synctest.Wait()
		for _, stream := range streams[:4] {
			conn.Announce(stream, large)
		}
		synctest.Wait()
		if server.requests.bytes.TryAcquire(1) {
			t.Error("announced messages reserve no bytes")
		}
		for _, stream := range streams[:4] {
			// Two streams have bytes. The other two get none, or get them at their own deadline.
			code, text := conn.Status(stream)
			if code != "8" || text != errMessageTimeout.Error() && text != errTooManyBytes.Error() {
				t.Errorf("%s %s", code, text)
			}
		}
		if took := time.Since(began); took != messageTimeout {
			t.Errorf("they ended after %v", took)
		}
		synctest.Wait()
		if !server.requests.bytes.TryAcquire(2 * large) {
			t.Error("bytes or slots were not released")
		}
		server.requests.bytes.Release(2 * large)
		idle := streams[4]
		conn.Announce(idle, large)
		conn.Send(idle, make([]byte, 16<<10))
		synctest.Wait()
		if server.requests.bytes.TryAcquire(large + 1) {
			t.Error("a message that is being read reserves no bytes")
		}
		_ = raw.Close()
		if _, err := server.drained(); err != nil {
			t.Error(err)
		}
		if !server.requests.bytes.TryAcquire(2 * large) {
			t.Error("a stream did not release its bytes at its end")
		}
	})
}

// TestMessageThatNeverComes: a call whose header arrives and whose message does not ends at messageTimeout,
// also a call to a public service.
func TestMessageThatNeverComes(t *testing.T) {
	for name, method := range map[string]string{
		"a call": callMethod, "health": healthpb.Health_Check_FullMethodName, "a watch": healthpb.Health_Watch_FullMethodName,
		"reflection": reflectionpb.ServerReflection_ServerReflectionInfo_FullMethodName,
	} {
		for part, announced := range map[string]bool{"nothing": false, "a part": true} {
			t.Run(name+" with "+part, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					server := startConfigured(t, Config{RequestLimits: bounds, Reflection: true}, &echo{call: repeat})
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
					code, text := conn.Status(call)
					took := time.Since(began)
					if code != "8" || !strings.Contains(text, "did not arrive within 10 s") || took != messageTimeout {
						t.Errorf("%s %s after %v", code, text, took)
					}
					synctest.Wait()
					l := server.requests
					if !l.bytes.TryAcquire(bounds.MaxBytes) || !l.calls.TryAcquire(int64(bounds.MaxCalls)) {
						t.Error("bytes or slots were not released")
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

// TestOpenServicesTakeOnlySmallMessages: public services reject a large message by its length, before its
// content arrives, although other services of the server accept it.
func TestOpenServicesTakeOnlySmallMessages(t *testing.T) {
	server := start(t, Config{MaxReceive: ManagementMaxReceive, Reflection: true}, &echo{call: repeat})
	for _, method := range []string{
		healthpb.Health_Check_FullMethodName, healthpb.Health_Watch_FullMethodName,
		reflectionpb.ServerReflection_ServerReflectionInfo_FullMethodName,
	} {
		conn := rawgrpc.Dial(t, server.Addr().String())
		call := conn.Open(method)
		conn.Announce(call, publicMaxReceive+1)
		if code, text := conn.Status(call); code != "8" || !strings.Contains(text, "want at most 4096") {
			t.Errorf("%s: %s %s", method, code, text)
		}
		call = conn.Open(method)
		conn.Send(call, []byte{1, 0, 0, 0, 9})
		if code, text := conn.Status(call); code != "12" {
			t.Errorf("%s, compressed: %s %s", method, code, text)
		}
		call = conn.Open(method)
		conn.Send(call, []byte{0, 0, 0, 0, 1, 0xff})
		if code, text := conn.Status(call); code != "3" {
			t.Errorf("%s, with garbage: %s %s", method, code, text)
		}
	}
}

// TestConnectionsAreBounded: a connection above the bound is closed on arrival, and counted.
func TestConnectionsAreBounded(t *testing.T) {
	server := start(t, Config{MaxConnections: 1}, &echo{call: repeat})
	first := check.Dial(t, server.Addr().String())
	if _, err := call(t.Context(), first, "x"); err != nil {
		t.Fatal(err)
	}
	raw, err := net.Dial("tcp", server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if n, err := raw.Read(make([]byte, 1)); err == nil {
		t.Errorf("the second connection got %d bytes, want it closed", n)
	}
	if server.RefusedConnections() != 1 || server.Connections() != 1 {
		t.Errorf("%d refused, %d open", server.RefusedConnections(), server.Connections())
	}
	_ = first.Close()
	check.Eventually(t, "a slot for another connection", func() error {
		_, err := call(t.Context(), check.Dial(t, server.Addr().String()), "x")
		return err
	})
}
