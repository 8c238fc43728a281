package authorize_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"google.golang.org/grpc"

	"github.com/countersign/countersign/pkg/client"
	"github.com/countersign/countersign/pkg/secret"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// empty answers without a decision, on a grpc-go server with default settings.
type empty struct {
	countersignv1.UnimplementedValidatorServiceServer
}

func (empty) Authorize(context.Context, *countersignv1.AuthorizeRequest) (*countersignv1.AuthorizeResponse, error) {
	return &countersignv1.AuthorizeResponse{Decision: countersignv1.Decision_DECISION_ALLOW}, nil
}

// BenchmarkAuthorize compares the cost of a decision by call and by stream, through pkg/client over
// loopback. The empty call is the cost of grpc-go alone. cpu-ns/op is the CPU time of client and server
// together.
func BenchmarkAuthorize(b *testing.B) {
	d := startDemo(b)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := grpc.NewServer()
	countersignv1.RegisterValidatorServiceServer(server, empty{})
	go func() { _ = server.Serve(listener) }()
	b.Cleanup(server.Stop)
	nothing := connect(b, listener.Addr().String())

	for _, callers := range []int{1, 32, 128} {
		for _, kind := range []struct {
			name string
			make func() *client.Client
		}{
			{"empty", func() *client.Client { return client.New(nothing) }},
			{"call", func() *client.Client { return client.New(d.connection) }},
			{"stream", func() *client.Client { return client.NewStreaming(d.connection, client.StreamOptions{}) }},
		} {
			b.Run(kind.name+fmt.Sprintf("/callers=%d", callers), func(b *testing.B) {
				c := kind.make()
				defer c.Close()
				measure(b, c, callers, client.Request{AppID: fuzzApp, Token: secret.New(d.secret), Scope: events})
			})
		}
	}
}

// measure asks from several goroutines at once.
func measure(b *testing.B, c *client.Client, callers int, request client.Request) {
	var left atomic.Int64
	ask := func(n int) {
		left.Store(int64(n))
		var group sync.WaitGroup
		for range callers {
			group.Go(func() {
				for left.Add(-1) >= 0 {
					if answer, err := c.Authorize(b.Context(), request); err != nil || !answer.Allow {
						b.Errorf("%+v %v", answer, err)
					}
				}
			})
		}
		group.Wait()
	}
	ask(500) // opens connections and streams
	b.ReportAllocs()
	b.ResetTimer()
	before := cpu()
	ask(b.N)
	b.ReportMetric(float64(cpu()-before)/float64(b.N), "cpu-ns/op")
}

// cpu returns the CPU time that the process has used, in nanoseconds.
func cpu() int64 {
	var used syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &used)
	return used.Utime.Nano() + used.Stime.Nano()
}
