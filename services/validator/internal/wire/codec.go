// Package wire reads and writes the messages of the Authorize path without making protobuf messages of
// them: what a request says is read where it was received, and an answer is written where it is sent from.
// It is the same encoding; whatever is not of the plain form that protobuf libraries write is left to the
// one of Go.
package wire

import (
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

// Codec is that of a server whose handlers take and return the types of this package, or protobuf messages.
// Make one with NewCodec.
type Codec struct{ encoding.CodecV2 }

// NewCodec returns a codec.
func NewCodec() Codec { return Codec{encoding.GetCodecV2(proto.Name)} }

// Marshal implements encoding.CodecV2.
func (c Codec) Marshal(v any) (mem.BufferSlice, error) {
	switch v := v.(type) {
	case *Encoded:
		return v.buffers[:], nil
	case *Answers:
		return v.encoded(), nil
	}
	return c.CodecV2.Marshal(v)
}

// Unmarshal implements encoding.CodecV2.
func (c Codec) Unmarshal(data mem.BufferSlice, v any) error {
	switch v := v.(type) {
	case *Request:
		return v.unmarshal(data)
	case *Requests:
		return v.unmarshal(data)
	}
	return c.CodecV2.Unmarshal(data, v)
}
