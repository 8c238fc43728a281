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

// bytesCodec sends bytes as they are.
type bytesCodec struct{}

func (bytesCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}
func (bytesCodec) Unmarshal(mem.BufferSlice, any) error { return nil }
func (bytesCodec) Name() string                         { return "proto" }

var _ encoding.CodecV2 = bytesCodec{}

// TestMessagesThatCannotBeRead are the caller's mistake, in calls and in streams, and the words do not
// repeat what was sent.
func TestMessagesThatCannotBeRead(t *testing.T) {
	server := start(t, Config{RequestLimits: bounds}, &echo{call: repeat, stream: func(stream grpc.ServerStream) error {
		return stream.RecvMsg(new(wrapperspb.StringValue))
	}})
	conn := check.Dial(t, server.Addr().String())
	for name, tt := range map[string]struct{ message, words string }{
		"not UTF-8":     {"\x0a\x02a\xff", "value: want UTF-8"},
		"no message":    {"\xff\xff\xff", "message: is not a google.protobuf.StringValue in the encoding of Protocol Buffers"},
		"one cut short": {"\x0a\x7fcs_secret", "message: is not a google.protobuf.StringValue in the encoding of Protocol Buffers"},
	} {
		raw := grpc.ForceCodecV2(bytesCodec{})
		check := func(kind string, err error, words string) {
			t.Helper()
			if s := status.Convert(err); s.Code() != codes.InvalidArgument || apierr.ReasonOf(err) != "INVALID_FIELD" || s.Message() != words {
				t.Errorf("%s, %s: %v", kind, name, err)
			}
		}
		check("call", conn.Invoke(t.Context(), callMethod, []byte(tt.message), new([]byte), raw), tt.words)
		stream, err := conn.NewStream(t.Context(), chatStream, chatMethod, raw)
		if err != nil {
			t.Fatal(err)
		}
		_ = stream.SendMsg([]byte(tt.message)) // receiving tells why it has failed
		check("stream", stream.RecvMsg(new([]byte)), tt.words)
		if name == "not UTF-8" {
			tt.words = "service: want UTF-8"
		} else {
			tt.words = "message: is not a grpc.health.v1.HealthCheckRequest in the encoding of Protocol Buffers"
		}
		check("health", conn.Invoke(t.Context(), healthpb.Health_Check_FullMethodName, []byte(tt.message), new([]byte), raw), tt.words)
	}
}

// TestTheFieldIsNamed, however deep it is.
func TestTheFieldIsNamed(t *testing.T) {
	descriptor := (*errdetails.BadRequest)(nil).ProtoReflect().Descriptor()
	for want, message := range map[string]*errdetails.BadRequest{
		"":                                {FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "é"}}},
		"field_violations[1].description": {FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "a"}, {Field: "b", Description: "REPLACE"}}},
		"field_violations[0].field":       {FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "REPLACE"}}},
	} {
		data, err := proto.Marshal(message)
		if err != nil {
			t.Fatal(err)
		}
		if got := notUTF8(descriptor, bytes.ReplaceAll(data, []byte("REPLACE"), []byte("REPLAC\xff"))); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
