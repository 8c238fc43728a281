package grpcserver

import (
	"slices"

	"google.golang.org/grpc"
)

// wrapService returns a copy of a service's description with every handler wrapped. The wrappers get the
// full name of the method, such as /package.Service/Method.
func wrapService(
	service *grpc.ServiceDesc,
	wrapUnary func(method string, handler grpc.MethodHandler) grpc.MethodHandler,
	wrapStream func(method string, stream *grpc.StreamDesc) grpc.StreamHandler,
) *grpc.ServiceDesc {
	wrapped := *service
	wrapped.Methods, wrapped.Streams = slices.Clone(service.Methods), slices.Clone(service.Streams)
	prefix := "/" + service.ServiceName + "/"
	for i := range service.Methods {
		method := &service.Methods[i]
		wrapped.Methods[i].Handler = wrapUnary(prefix+method.MethodName, method.Handler)
	}
	for i := range service.Streams {
		stream := &service.Streams[i]
		wrapped.Streams[i].Handler = wrapStream(prefix+stream.StreamName, stream)
	}
	return &wrapped
}
