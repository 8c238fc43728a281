package grpcserver

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersign/countersign/pkg/testkit/check"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
)

// bubble is a server in a synctest bubble: it uses no network, and time jumps when all goroutines wait.
type bubble struct {
	*Server
	logs     *logs
	listener *bufconn.Listener
	end      context.CancelFunc
	wait     func() error
}

func startInBubble(t *testing.T, drain Drain, service *echo) bubble {
	t.Helper()
	return startConfigured(t, Config{Drain: drain, StreamWorkers: 2}, service)
}

func startConfigured(t *testing.T, config Config, service *echo) bubble {
	t.Helper()
	config, err := config.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	logs, listener := new(logs), bufconn.Listen(1<<16)
	server := build(config, logs.logger(), listener, transportOptions(config), nil)
	server.RegisterService(&echoDesc, service)
	ctx, end := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx) }()
	return bubble{
		Server: server, logs: logs, listener: listener,
		end: end, wait: func() error { return <-served },
	}
}

func (b bubble) dial(t *testing.T, options ...grpc.DialOption) *grpc.ClientConn {
	return check.Dial(t, "passthrough:///bubble", append(options,
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return b.listener.DialContext(ctx) }),
	)...)
}

// drained ends the server, and returns how long the drain took and the error of Serve.
func (b bubble) drained() (time.Duration, error) {
	began := time.Now()
	b.end()
	err := b.wait()
	return time.Since(began), err
}

func TestDrainLetsCallsFinishAndRefusesNewOnes(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	server := start(t, Config{StreamWorkers: 2}, &echo{call: func(_ context.Context, text string) (string, error) {
		if text == "slow" {
			close(entered)
			<-release
		}
		return text, nil
	}})
	conn, other := check.Dial(t, server.Addr().String()), check.Dial(t, server.Addr().String())
	if _, err := call(t.Context(), other, "quick"); err != nil {
		t.Fatal(err)
	}
	type answer struct {
		text string
		err  error
	}
	answered := make(chan answer, 1)
	go func() {
		text, err := call(context.Background(), conn, "slow")
		answered <- answer{text, err}
	}()
	<-entered
	server.end()
	<-server.Draining()
	// The listener is closed after Draining, on another goroutine: until then a call may still succeed.
	for _, c := range []*grpc.ClientConn{check.Dial(t, server.Addr().String()), other} {
		var err error
		for err == nil {
			_, err = call(t.Context(), c, "late")
		}
		if status.Code(err) != codes.Unavailable {
			t.Errorf("late call = %v, want UNAVAILABLE", err)
		}
	}
	select {
	case got := <-answered:
		t.Fatalf("call in flight was answered %v before its handler returned", got)
	default:
	}
	close(release)
	if got := <-answered; got.text != "slow" || got.err != nil {
		t.Errorf("call in flight = %q, %v", got.text, got.err)
	}
	if err := server.wait(); err != nil {
		t.Errorf("Serve = %v", err)
	}
	if lines := server.logs.lines(t, "drain timed out, cutting the calls in flight"); len(lines) != 0 {
		t.Errorf("logged %v", lines)
	}
}

func TestDrainDelaysAfterHealthChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := startInBubble(t, Drain{Delay: 5 * time.Second}, &echo{call: repeat})
		server.SetServing("", true)
		server.SetServing(echoService, true)
		conn := server.dial(t)
		watch, err := healthpb.NewHealthClient(conn).Watch(t.Context(), &healthpb.HealthCheckRequest{Service: echoService})
		if err != nil {
			t.Fatal(err)
		}
		expect(t, watch, healthpb.HealthCheckResponse_SERVING)

		began := time.Now()
		server.end()
		expect(t, watch, healthpb.HealthCheckResponse_NOT_SERVING)
		if passed := time.Since(began); passed != 0 {
			t.Errorf("health changed after %s, want at once", passed)
		}
		server.SetServing(echoService, true)
		time.Sleep(5*time.Second - 1)
		for _, service := range []string{"", echoService} {
			if got := stateOf(t, conn, service); got != healthpb.HealthCheckResponse_NOT_SERVING {
				t.Errorf("health of %q during the drain = %v", service, got)
			}
		}
		if _, err := call(t.Context(), conn, "during the delay"); err != nil {
			t.Errorf("call during the delay = %v", err)
		}
		if err := server.wait(); err != nil {
			t.Errorf("Serve = %v", err)
		}
		if passed := time.Since(began); passed != 5*time.Second {
			t.Errorf("drain took %s, want 5s: the watch must not prolong it", passed)
		}
		if _, err := watch.Recv(); status.Code(err) != codes.Canceled {
			t.Errorf("watch ended with %v, want CANCELLED", err)
		}
	})
}

func TestDrainCutsAHungCallAtTheTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		entered := make(chan struct{})
		server := startInBubble(t, Drain{}, &echo{call: func(ctx context.Context, _ string) (string, error) {
			close(entered)
			<-ctx.Done()
			return "", ctx.Err()
		}})
		failed := make(chan error, 1)
		conn := server.dial(t)
		go func() {
			_, err := call(context.Background(), conn, "")
			failed <- err
		}()
		<-entered
		passed, err := server.drained()
		if err != nil || passed != DefaultDrainTimeout {
			t.Errorf("Serve = %v after %s, want nil after %s", err, passed, DefaultDrainTimeout)
		}
		if err := <-failed; status.Code(err) != codes.Unavailable {
			t.Errorf("cut call = %v, want UNAVAILABLE", err)
		}
		if lines := server.logs.lines(t, "drain timed out, cutting the calls in flight"); len(lines) != 1 {
			t.Errorf("logged %s, want the cut", server.logs)
		}
	})
}

func TestDrainLeavesBehindACallThatIgnoresTheCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		entered, release := make(chan struct{}), make(chan struct{})
		server := startInBubble(t, Drain{Timeout: time.Second}, &echo{call: func(context.Context, string) (string, error) {
			close(entered)
			<-release
			return "", nil
		}})
		conn := server.dial(t)
		go call(context.Background(), conn, "")
		<-entered
		passed, err := server.drained()
		if want := time.Second + cutGrace; err == nil || passed != want {
			t.Errorf("Serve = %v after %s, want an error after %s", err, passed, want)
		}
		close(release)
	})
}

// TestDrainOutlivesAMuteConnection: a client that never sends its handshake delays the end no longer than
// connectionTimeout. grpc-go waits for handshakes, even in Stop.
func TestDrainOutlivesAMuteConnection(t *testing.T) {
	for _, timeout := range []time.Duration{DefaultDrainTimeout, time.Second} {
		synctest.Test(t, func(t *testing.T) {
			server := startInBubble(t, Drain{Timeout: timeout}, &echo{call: repeat})
			mute, err := server.listener.Dial()
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			passed, err := server.drained()
			if err != nil || passed > connectionTimeout {
				t.Errorf("Serve = %v after %s, want nil after at most %s", err, passed, connectionTimeout)
			}
			mute.Close()
		})
	}
}

func TestDrainTellsLongStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service := new(echo)
		server := startInBubble(t, Drain{}, service)
		service.stream = func(grpc.ServerStream) error {
			<-server.Draining()
			return nil
		}
		conn := server.dial(t)
		ended := make(chan error, 1)
		go func() { ended <- chat(context.Background(), conn, "") }()
		synctest.Wait()
		if passed, err := server.drained(); err != nil || passed != 0 {
			t.Errorf("Serve = %v after %s, want nil at once", err, passed)
		}
		if err := <-ended; !errors.Is(err, io.EOF) {
			t.Errorf("stream ended with %v, want EOF", err)
		}
	})
}

func TestServeFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := startInBubble(t, Drain{Delay: time.Hour}, &echo{call: repeat})
		server.listener.Close()
		if err := server.wait(); err == nil {
			t.Error("Serve = nil when its listener failed")
		}
		<-server.Draining()
		server.end()
	})
}

func TestServeAfterTheEnd(t *testing.T) {
	address := loopback(t)
	ctx, end := context.WithCancel(context.Background())
	end()
	for range 2 { // the second time shows that the first closed the port
		server, err := New(Config{Listen: address}, new(logs).logger())
		if err != nil {
			t.Fatal(err)
		}
		if err := server.Serve(ctx); err != nil {
			t.Errorf("Serve = %v", err)
		}
	}
}
