package grpcserver

import (
	"context"
	"testing"

	"github.com/countersign/countersign/pkg/testkit/check"
	"google.golang.org/grpc"
)

// TestBoundaryIsFree: the boundary must not allocate, because every Authorize call runs it.
func TestBoundaryIsFree(t *testing.T) {
	edge := newBoundary(new(logs).logger())
	ctx, info := context.Background(), &grpc.UnaryServerInfo{FullMethod: callMethod}
	var request any = "request"
	handler := func(_ context.Context, request any) (any, error) { return request, nil }
	if got := testing.AllocsPerRun(100, func() { _, _ = edge.unary(ctx, request, info, handler) }); got != 0 {
		t.Errorf("%v allocations, want none", got)
	}
}

func BenchmarkBoundary(b *testing.B) {
	edge := newBoundary(new(logs).logger())
	ctx, info := context.Background(), &grpc.UnaryServerInfo{FullMethod: callMethod}
	var request any = "request"
	handler := func(_ context.Context, request any) (any, error) { return request, nil }
	for b.Loop() {
		_, _ = edge.unary(ctx, request, info, handler)
	}
}

func BenchmarkCall(b *testing.B) {
	for name, options := range map[string][]grpc.ServerOption{
		"bare":            nil,
		"one interceptor": {grpc.ChainUnaryInterceptor(passUnary)},
		"logged":          {grpc.ChainUnaryInterceptor(LogCalls(new(logs).logger()))},
	} {
		b.Run(name, func(b *testing.B) {
			server := start(b, Config{StreamWorkers: 64}, &echo{call: repeat}, options...)
			conn := check.Dial(b, server.Addr().String())
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := call(context.Background(), conn, "token"); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
