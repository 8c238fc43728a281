package grpcserver

import (
	"bytes"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/testkit/check"
)

// bytesCodec sends bytes without encoding them.
type bytesCodec struct{}

func (bytesCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}
func (bytesCodec) Unmarshal(mem.BufferSlice, any) error { return nil }
func (bytesCodec) Name() string                         { return "proto" }

var _ encoding.CodecV2 = bytesCodec{}

// TestMessagesThatCannotBeRead: a message that cannot be decoded is INVALID_ARGUMENT, in calls and in
// streams, and the error does not repeat the message.
func TestMessagesThatCannotBeRead(t *testing.T) {
	server := start(t, Config{RequestLimits: bounds}, &echo{call: repeat, stream: func(stream grpc.ServerStream) error {
		return stream.RecvMsg(new(wrapperspb.StringValue))
	}})
	conn := check.Dial(t, server.Addr().String())
	const noString = "message: is not a google.protobuf.StringValue in the encoding of Protocol Buffers"
	for name, tt := range map[string]struct{ message, text string }{
		"not UTF-8":     {"\x0a\x02a\xff", "value: want UTF-8"},
		"no message":    {"\xff\xff\xff", noString},
		"one cut short": {"\x0a\x7fcs_secret", noString},
	} {
		raw := grpc.ForceCodecV2(bytesCodec{})
		check := func(kind string, err error, text string) {
			t.Helper()
			s := status.Convert(err)
			if s.Code() != codes.InvalidArgument || apierr.ReasonOf(err) != "INVALID_FIELD" || s.Message() != text {
				t.Errorf("%s, %s: %v", kind, name, err)
			}
		}
		check("call", conn.Invoke(t.Context(), callMethod, []byte(tt.message), new([]byte), raw), tt.text)
		stream, err := conn.NewStream(t.Context(), chatStream, chatMethod, raw)
		if err != nil {
			t.Fatal(err)
		}
		_ = stream.SendMsg([]byte(tt.message)) // RecvMsg returns why it has failed
		check("stream", stream.RecvMsg(new([]byte)), tt.text)
		if name == "not UTF-8" {
			tt.text = "service: want UTF-8"
		} else {
			tt.text = "message: is not a grpc.health.v1.HealthCheckRequest in the encoding of Protocol Buffers"
		}
		err = conn.Invoke(t.Context(), healthpb.Health_Check_FullMethodName, []byte(tt.message), new([]byte), raw)
		check("health", err, tt.text)
	}
}

// TestTheFieldIsNamed: notUTF8 names a field however deeply it is nested.
func TestTheFieldIsNamed(t *testing.T) {
	descriptor := (*errdetails.BadRequest)(nil).ProtoReflect().Descriptor()
	for want, violations := range map[string][]*errdetails.BadRequest_FieldViolation{
		"":                                {{Field: "é"}},
		"field_violations[1].description": {{Field: "a"}, {Field: "b", Description: "REPLACE"}},
		"field_violations[0].field":       {{Field: "REPLACE"}},
	} {
		data, err := proto.Marshal(&errdetails.BadRequest{FieldViolations: violations})
		if err != nil {
			t.Fatal(err)
		}
		if got := notUTF8(descriptor, bytes.ReplaceAll(data, []byte("REPLACE"), []byte("REPLAC\xff"))); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
