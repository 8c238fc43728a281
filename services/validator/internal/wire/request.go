package wire

import (
	"fmt"
	"strings"
	"unsafe"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// Request is a received AuthorizeRequest.
type Request struct {
	// The strings share memory with the received message. In a Requests they are valid until the next message
	// is read; Keep copies them.
	AppID, Token, MinRevision string
	// Scope and Source are the numbers that were sent, known or not.
	Scope  countersignv1.Scope
	Source countersignv1.Source
	// Unreadable says that the bytes are no request, or that a string is not UTF-8. It is no error of the
	// codec, since gRPC would answer that with INTERNAL, and the caller is at fault.
	Unreadable bool
}

// Format implements fmt.Formatter: no verb prints the token (B02).
func (r Request) Format(to fmt.State, _ rune) {
	fmt.Fprintf(
		to, "{app %q, token of %d bytes, scope %d, source %d, min_revision %q}", r.AppID, len(r.Token), r.Scope, r.Source,
		r.MinRevision,
	)
}

// Keep returns a copy of the request whose strings share no memory.
func (r *Request) Keep() *Request {
	kept := *r
	kept.AppID, kept.Token, kept.MinRevision = strings.Clone(r.AppID), strings.Clone(r.Token), strings.Clone(r.MinRevision)
	return &kept
}

// The tags of fields: number and wire type, one byte for numbers below 16.
const (
	bytesOf1  = 1<<3 | byte(protowire.BytesType)
	bytesOf2  = 2<<3 | byte(protowire.BytesType)
	bytesOf3  = 3<<3 | byte(protowire.BytesType)
	bytesOf4  = 4<<3 | byte(protowire.BytesType)
	bytesOf5  = 5<<3 | byte(protowire.BytesType)
	bytesOf6  = 6<<3 | byte(protowire.BytesType)
	numberOf1 = 1<<3 | byte(protowire.VarintType)
	numberOf2 = 2<<3 | byte(protowire.VarintType)
	numberOf3 = 3<<3 | byte(protowire.VarintType)
	numberOf4 = 4<<3 | byte(protowire.VarintType)
	numberOf5 = 5<<3 | byte(protowire.VarintType)
)

// unmarshal reads a request whose strings stay valid as long as the request.
func (r *Request) unmarshal(data mem.BufferSlice) error {
	b, lasting := whole(data)
	if !lasting {
		b = append([]byte(nil), b...)
	}
	if r.read(b) {
		return nil
	}
	var m countersignv1.AuthorizeRequest
	if proto.Unmarshal(b, &m) != nil {
		*r = Request{Unreadable: true}
		return nil //nolint:nilerr // Unreadable says it
	}
	r.set(&m)
	return nil
}

// whole returns the bytes of a message, and whether they last. The bytes of a SliceBuffer are never reused;
// other buffers are reused after they were freed.
func whole(data mem.BufferSlice) (b []byte, lasting bool) {
	if len(data) != 1 {
		return data.Materialize(), true
	}
	_, lasting = data[0].(mem.SliceBuffer)
	return data[0].ReadOnlyData(), lasting
}

func (r *Request) set(m *countersignv1.AuthorizeRequest) {
	*r = Request{
		AppID: m.GetAppId(), Token: m.GetToken(), MinRevision: m.GetMinRevision(), Scope: m.GetScope(), Source: m.GetSource(),
	}
}

// read reads a request from bytes that must not change. It returns false when they are not in the plain form.
func (r *Request) read(b []byte) bool {
	*r = Request{}
	for len(b) > 0 {
		tag := b[0]
		b = b[1:]
		var ok bool
		switch tag {
		case bytesOf1:
			r.AppID, b, ok = text(b)
		case bytesOf2:
			r.Token, b, ok = text(b)
		case numberOf3:
			var n uint64
			n, b, ok = number(b)
			r.Scope = countersignv1.Scope(n)
		case numberOf4:
			var n uint64
			n, b, ok = number(b)
			r.Source = countersignv1.Source(n)
		case bytesOf5:
			r.MinRevision, b, ok = text(b)
		default:
			return false
		}
		if !ok {
			return false
		}
	}
	return true
}

func number(b []byte) (n uint64, rest []byte, ok bool) {
	if len(b) > 0 && b[0] < 0x80 {
		return uint64(b[0]), b[1:], true
	}
	n, size := protowire.ConsumeVarint(b)
	if size < 0 {
		return 0, nil, false
	}
	return n, b[size:], true
}

// part reads a length and returns that many bytes.
func part(b []byte) (inner, rest []byte, ok bool) {
	n, b, ok := number(b)
	if !ok || n > uint64(len(b)) {
		return nil, nil, false
	}
	return b[:n:n], b[n:], true
}

// text returns a string that shares memory with the bytes. The string may be invalid UTF-8, which package
// proto would reject: a token of any bytes is only a malformed token (B03), and must not end a stream that
// carries other requests.
func text(b []byte) (s string, rest []byte, ok bool) {
	inner, rest, ok := part(b)
	if !ok {
		return "", nil, false
	}
	return unsafe.String(unsafe.SliceData(inner), len(inner)), rest, true
}
