package serve

import (
	"context"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"
)

// EmptyMethod is the path of the only method of an Empty server.
const EmptyMethod = "/countersign.bench.EmptyService/Call"

// grpcServer is a plain server of grpc-go, without handlers and interceptors of the product.
type grpcServer struct {
	*grpc.Server
	listener net.Listener
}

func newGRPCServer(c Config) (*grpcServer, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	var options []grpc.ServerOption
	if c.StreamWorkers > 0 {
		options = append(options, grpc.NumStreamWorkers(c.StreamWorkers))
	}
	return &grpcServer{grpc.NewServer(options...), listener}, nil
}

// Run implements server.
func (s *grpcServer) Run(ctx context.Context) error {
	defer context.AfterFunc(ctx, s.Stop)()
	if err := s.Serve(s.listener); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

func (s *grpcServer) state(to *State) { to.Address = s.listener.Addr().String() }

// newEmpty returns a server that does only what every gRPC server does.
func newEmpty(c Config) (server, error) {
	s, err := newGRPCServer(c)
	if err != nil {
		return nil, err
	}
	s.RegisterService(&emptyService, nil)
	return s, nil
}

// emptyService is the description that protoc-gen-go-grpc generates for a service with one method from Empty
// to Empty.
var emptyService = grpc.ServiceDesc{
	ServiceName: "countersign.bench.EmptyService",
	Methods: []grpc.MethodDesc{{MethodName: "Call", Handler: func(
		_ any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor,
	) (any, error) {
		request := new(emptypb.Empty)
		if err := decode(request); err != nil {
			return nil, err
		}
		if intercept == nil {
			return new(emptypb.Empty), nil
		}
		return intercept(ctx, request, &grpc.UnaryServerInfo{FullMethod: EmptyMethod}, func(context.Context, any) (any, error) {
			return new(emptypb.Empty), nil
		})
	}}},
}
