package authorize

import (
	"context"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/services/validator/internal/wire"
)

// TestB19_WhatIsNoRequest: bytes that are no request get INVALID_ARGUMENT. The codec returns no error for
// them, because grpc-go would answer INTERNAL.
func TestB19_WhatIsNoRequest(t *testing.T) {
	w := startWorld(t)
	for name, raw := range map[string]string{
		"no message":               "\xff\xff",
		"cut short":                "\x0a\x7fa",
		"not UTF-8, unusual order": "\x18\x01\x0a\x02a\xff\xfa\x07\x00",
	} {
		data := mem.BufferSlice{mem.SliceBuffer(raw)}
		_, err := handle(w.service, context.Background(), func(into any) error { return codec.Unmarshal(data, into) }, nil)
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
		message := new(wire.Requests)
		if err := codec.Unmarshal(mem.BufferSlice{mem.SliceBuffer("\x12" + raw)}, message); err != nil || len(message.List) != 1 {
			t.Errorf("%s in a stream: %v, %v", name, message.List, err)
		}
	}
	message := new(wire.Requests)
	if err := codec.Unmarshal(mem.BufferSlice{mem.SliceBuffer("\xff")}, message); err != nil {
		t.Fatal(err)
	}
	if err := (&stream{}).answer(message); status.Code(err) != codes.InvalidArgument {
		t.Errorf("a stream: %v", err)
	}
}
