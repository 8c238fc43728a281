package cli

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// remembered is a connection that remembers its last unary call. It is not safe for concurrent use.
type remembered struct {
	grpc.ClientConnInterface
	method         string
	request, reply proto.Message
}

// Invoke implements grpc.ClientConnInterface.
func (r *remembered) Invoke(ctx context.Context, method string, request, reply any, options ...grpc.CallOption) error {
	r.method = method
	r.request, _ = request.(proto.Message)
	r.reply, _ = reply.(proto.Message)
	return r.ClientConnInterface.Invoke(ctx, method, request, reply, options...)
}

// receipt repeats the last call, which made a change and has a request id, and asks the authority to wait for
// the receipt.
func (r *remembered) receipt(ctx context.Context, wait time.Duration) (*countersignv1.Receipt, error) {
	again := proto.Clone(r.request)
	fields := again.ProtoReflect()
	fields.Set(fields.Descriptor().Fields().ByName("wait_for_propagation"),
		protoreflect.ValueOfMessage(durationpb.New(wait).ProtoReflect()))
	reply := r.reply.ProtoReflect().New().Interface()
	if err := r.ClientConnInterface.Invoke(ctx, r.method, again, reply); err != nil {
		return nil, err
	}
	answer, _ := reply.(receipted)
	return answer.GetReceipt(), nil
}
