package grpcserver

import (
	"context"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersign/countersign/pkg/testkit/check"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func TestReceiveLimit(t *testing.T) {
	for name, tt := range map[string]struct{ configured, limit int }{
		"default":    {0, AuthorizeMaxReceive},
		"management": {ManagementMaxReceive, ManagementMaxReceive},
	} {
		t.Run(name, func(t *testing.T) {
			server := start(t, Config{MaxReceive: tt.configured}, &echo{
				call: func(context.Context, string) (string, error) { return "", nil },
				stream: func(stream grpc.ServerStream) error {
					_, err := receive(stream)
					return err
				},
			})
			conn := check.Dial(t, server.Addr().String())
			largest := strings.Repeat("x", tt.limit)
			for proto.Size(wrapperspb.String(largest)) > tt.limit {
				largest = largest[1:]
			}
			if _, err := call(t.Context(), conn, largest); err != nil {
				t.Errorf("a message of %d bytes = %v", tt.limit, err)
			}
			_, err := call(t.Context(), conn, largest+"x")
			if status.Code(err) != codes.ResourceExhausted {
				t.Errorf("a message of one byte more = %v, want RESOURCE_EXHAUSTED", err)
			}
			if err := chat(t.Context(), conn, largest+"x"); status.Code(err) != codes.ResourceExhausted {
				t.Errorf("a message of one byte more in a stream = %v, want RESOURCE_EXHAUSTED", err)
			}
		})
	}
}

func TestSendLimit(t *testing.T) {
	server := start(t, Config{}, &echo{call: func(context.Context, string) (string, error) {
		return strings.Repeat("x", maxSend), nil
	}})
	_, err := call(t.Context(), check.Dial(t, server.Addr().String()), "", grpc.MaxCallRecvMsgSize(2*maxSend))
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a large answer = %v, want RESOURCE_EXHAUSTED", err)
	}
}

func TestHeaderLimitIsTold(t *testing.T) {
	server := start(t, Config{}, &echo{call: repeat})
	conn := check.Dial(t, server.Addr().String())
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", strings.Repeat("x", maxHeaderList-1024))
	if _, err := call(ctx, conn, ""); err != nil {
		t.Errorf("call with metadata below the limit = %v", err)
	}
	ctx = metadata.AppendToOutgoingContext(t.Context(), "authorization", strings.Repeat("x", maxHeaderList))
	if _, err := call(ctx, conn, ""); err == nil || !strings.Contains(err.Error(), "header list size") {
		t.Errorf("call with metadata above the limit = %v, want an error that names the limit", err)
	}
}

// TestHeaderLimitIsEnforced writes its own HTTP/2 frames: a gRPC client that knows the server's settings does
// not send such a header.
func TestHeaderLimitIsEnforced(t *testing.T) {
	server := start(t, Config{}, &echo{call: func(context.Context, string) (string, error) {
		t.Error("the handler was called")
		return "", nil
	}})
	conn, err := net.Dial("tcp", server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var block strings.Builder
	encoder := hpack.NewEncoder(&block)
	for _, field := range [][2]string{
		{":method", "POST"},
		{":scheme", "http"},
		{":path", callMethod},
		{":authority", "test"},
		{"content-type", "application/grpc"},
		{"te", "trailers"},
		{"long", strings.Repeat("?", maxHeaderList)},
	} {
		if err := encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		t.Fatal(err)
	}
	framer := http2.NewFramer(conn, conn)
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	headers, frameSize := []byte(block.String()), 16<<10-1
	if err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: headers[:frameSize]}); err != nil {
		t.Fatal(err)
	}
	if err := framer.WriteContinuation(1, true, headers[frameSize:]); err != nil {
		t.Fatal(err)
	}
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return // closing the connection rejects the call too
		}
		if frame.Header().StreamID != 1 {
			continue
		}
		if _, reset := frame.(*http2.RSTStreamFrame); !reset {
			t.Errorf("answered %v, want the stream reset", frame)
		}
		return
	}
}

// TestStreamsLimit: a call above the limit waits until another one has ended.
func TestStreamsLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var inside atomic.Int32
		release := make(chan struct{})
		server := startInBubble(t, Drain{}, &echo{call: func(context.Context, string) (string, error) {
			inside.Add(1)
			<-release
			return "", nil
		}})
		conn := server.dial(t)
		const calls = maxStreams + 1
		failed := make(chan error, calls)
		for range calls {
			go func() {
				_, err := call(t.Context(), conn, "")
				failed <- err
			}()
		}
		synctest.Wait()
		if got := inside.Load(); got != maxStreams {
			t.Errorf("%d calls at once, want %d", got, maxStreams)
		}
		close(release)
		for range calls {
			if err := <-failed; err != nil {
				t.Errorf("call = %v", err)
			}
		}
		if _, err := server.drained(); err != nil {
			t.Errorf("Serve = %v", err)
		}
	})
}

// clientPing is the interval of client.Dial's pings, the shortest that grpc-go lets a client ask for.
const clientPing = 10 * time.Second

// TestKeepaliveAndAge: an idle client may ping at clientPing without being disconnected. Idle connections
// are closed at maxIdle. Connections in use are replaced at maxAge, and no call fails for it.
func TestKeepaliveAndAge(t *testing.T) {
	for name, tt := range map[string]struct {
		every, total time.Duration
		connections  int32
	}{
		"pings while idle": {14 * time.Minute, 14 * time.Minute, 1},
		"idle":             {16 * time.Minute, 16 * time.Minute, 2},
		"age":              {time.Minute, 40 * time.Minute, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := startInBubble(t, Drain{}, &echo{call: repeat})
				var connections atomic.Int32
				conn := check.Dial(t, "passthrough:///bubble",
					grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
						connections.Add(1)
						return server.listener.DialContext(ctx)
					}),
					grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: clientPing, PermitWithoutStream: true}),
				)
				began := time.Now()
				for {
					if _, err := call(t.Context(), conn, ""); err != nil {
						t.Fatalf("call after %s = %v", time.Since(began), err)
					}
					if time.Since(began) >= tt.total {
						break
					}
					time.Sleep(tt.every)
				}
				if got := connections.Load(); got != tt.connections {
					t.Errorf("%d connections in %s, want %d", got, tt.total, tt.connections)
				}
				conn.Close()
				if _, err := server.drained(); err != nil {
					t.Errorf("Serve = %v", err)
				}
			})
		})
	}
}
