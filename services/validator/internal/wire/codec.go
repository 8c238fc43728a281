// Package wire reads requests and writes answers of Authorize and AuthorizeStream without protobuf messages.
// Requests share the memory in which they arrived, and answers are written into the buffer that is sent. The
// encoding is the one of Protocol Buffers. Package proto reads all that is not in the plain form that
// protobuf libraries write. docs/decisions/015 has the measurement that justifies it. This package is not
// part of the public API and may change in any release.
package wire

import (
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

// Codec encodes and decodes the types of this package and protobuf messages. Make one with NewCodec.
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
