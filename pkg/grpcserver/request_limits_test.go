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

// TestInterceptorsRunBeforeTheMessage: a call that an interceptor refuses is answered by its header alone,
// and takes nothing of the bounds: more than they allow for are refused.
func TestInterceptorsRunBeforeTheMessage(t *testing.T) {
	var seen atomic.Int32
	server := start(t, Config{RequestLimits: bounds}, &echo{call: func(context.Context, string) (string, error) {
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
		// Two large messages leave too little for a third, which waits. Small ones never do.
		const large = 1 << 20
		inside, release := make(chan struct{}), make(chan struct{})
		server := start(t, Config{MaxReceive: large, RequestLimits: RequestLimits{MaxCalls: 10, MaxBytes: 2*large + 100, Large: []string{callMethod}}},
			&echo{call: func(_ context.Context, text string) (string, error) {
				inside <- struct{}{}
				<-release
				return "", nil
			}})
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
		check.Eventually(t, "a call waits for room", func() error {
			// One byte is free, but not for a call that comes after one that waits.
			if server.requests.bytes.TryAcquire(1) {
				server.requests.bytes.Release(1)
				return errors.New("none does")
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
			t.Error("something was not given back")
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

// TestCallsWithoutAMessageHoldNothing: however many calls have sent nothing, or a part of a small message,
// those of others are answered.
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
		// The connection's frames are read in order: the calls are there when a later one is answered.
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

// TestLargeMessagesAreForSomeMethods: those of others are refused by the length that is announced.
func TestLargeMessagesAreForSomeMethods(t *testing.T) {
	server := start(t, Config{MaxReceive: 1 << 20, RequestLimits: RequestLimits{MaxCalls: 1, MaxBytes: 1 << 20, Large: []string{chatMethod}}}, &echo{
		call:   repeat,
		stream: func(stream grpc.ServerStream) error { _, err := receive(stream); return err },
	})
	conn := rawgrpc.Dial(t, server.Addr().String())
	for method, most := range map[string]uint32{callMethod: streamWindow, chatMethod: 1 << 20} {
		call := conn.Open(method)
		conn.Announce(call, most+1)
		if code, words := conn.Status(call); code != "8" || !strings.Contains(words, fmt.Sprintf("want at most %d", most)) {
			t.Errorf("%s: %s %s", method, code, words)
		}
	}
	if !server.requests.bytes.TryAcquire(1 << 20) {
		t.Error("something was not given back")
	}
}

// TestLargeMessagesOfStreamsCount: those that are announced and do not come hold no more than the bound,
// and for no longer than messageTimeout. A stream that sends nothing may stay.
func TestLargeMessagesOfStreamsCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const large = 1 << 20
		server := startConfigured(t, Config{MaxReceive: large, RequestLimits: RequestLimits{MaxCalls: 1, MaxBytes: 2 * large, Large: []string{chatMethod}}},
			&echo{stream: func(stream grpc.ServerStream) error {
				for {
					if _, err := receive(stream); err != nil {
						return err
					}
				}
			}})
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
			t.Error("messages that were announced do not count")
		}
		for _, stream := range streams[:4] {
			// Two find no room, or find it when the time of the others is over, and theirs is too.
			if code, words := conn.Status(stream); code != "8" || words != errMessageTimeout.Error() && words != errTooManyBytes.Error() {
				t.Errorf("%s %s", code, words)
			}
		}
		if took := time.Since(began); took != messageTimeout {
			t.Errorf("they ended after %v", took)
		}
		synctest.Wait()
		if !server.requests.bytes.TryAcquire(2 * large) {
			t.Error("something was not given back")
		}
		server.requests.bytes.Release(2 * large)
		idle := streams[4]
		conn.Announce(idle, large)
		conn.Send(idle, make([]byte, 16<<10))
		synctest.Wait()
		if server.requests.bytes.TryAcquire(large + 1) {
			t.Error("a message that is read does not count")
		}
		_ = raw.Close()
		if _, err := server.drained(); err != nil {
			t.Error(err)
		}
		if !server.requests.bytes.TryAcquire(2 * large) {
			t.Error("what a stream has held was not given back at its end")
		}
	})
}

// TestMessageThatNeverComes: a call whose header comes and whose message does not is ended, and so is one
// to the services that are open to anyone.
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

// TestOpenServicesTakeOnlySmallMessages: they are refused by the size that is announced, before anything of
// them is read, although other services take larger ones.
func TestOpenServicesTakeOnlySmallMessages(t *testing.T) {
	server := start(t, Config{MaxReceive: ManagementMaxReceive, Reflection: true}, &echo{call: repeat})
	for _, method := range []string{
		healthpb.Health_Check_FullMethodName, healthpb.Health_Watch_FullMethodName,
		reflectionpb.ServerReflection_ServerReflectionInfo_FullMethodName,
	} {
		conn := rawgrpc.Dial(t, server.Addr().String())
		call := conn.Open(method)
		conn.Announce(call, publicMaxReceive+1)
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
		t.Errorf("the second connection is served %d bytes", n)
	}
	if server.RefusedConnections() != 1 || server.Connections() != 1 {
		t.Errorf("%d refused, %d open", server.RefusedConnections(), server.Connections())
	}
	_ = first.Close()
	check.Eventually(t, "room for another", func() error {
		_, err := call(t.Context(), check.Dial(t, server.Addr().String()), "x")
		return err
	})
}
