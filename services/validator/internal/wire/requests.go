package wire

import (
	"fmt"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// Requests is a received AuthorizeStreamRequest. It can be reused for the next message. It is not safe for
// concurrent use.
type Requests struct {
	// Sequence is the number of the first request. The following requests have the following numbers.
	Sequence uint64
	// List has at least one request. The first one is empty when the message has none.
	List []Request
	// held is the buffer that the strings share memory with, if it must be freed.
	held mem.Buffer
}

// Format implements fmt.Formatter: no verb prints a token (B02).
func (r *Requests) Format(to fmt.State, _ rune) {
	fmt.Fprintf(to, "{%d from %d: %v}", len(r.List), r.Sequence, r.List)
}

// Free frees the buffer that the strings of the requests share memory with.
func (r *Requests) Free() {
	if r.held != nil {
		r.held.Free()
		r.held = nil
	}
	clear(r.List)
}

func (r *Requests) unmarshal(data mem.BufferSlice) error {
	r.Free()
	b, lasting := whole(data)
	if !lasting {
		r.held = data[0]
		r.held.Ref()
	}
	if r.read(b) {
		return nil
	}
	var m countersignv1.AuthorizeStreamRequest
	if proto.Unmarshal(b, &m) != nil {
		r.Sequence, r.List = 0, append(r.List[:0], Request{Unreadable: true})
		return nil //nolint:nilerr // Unreadable says it
	}
	r.Sequence = m.GetSequence()
	r.List = append(r.List[:0], Request{})
	r.List[0].set(m.GetRequest())
	for _, further := range m.GetMore() {
		r.List = append(r.List, Request{})
		r.List[len(r.List)-1].set(further)
	}
	return nil
}

// read reads a message from bytes that must not change. It returns false when they are not in the plain form.
func (r *Requests) read(b []byte) bool {
	r.Sequence = 0
	r.List = append(r.List[:0], Request{})
	first := false
	for len(b) > 0 {
		tag := b[0]
		b = b[1:]
		var inner []byte
		var ok bool
		switch tag {
		case numberOf1:
			r.Sequence, b, ok = number(b)
		case bytesOf2:
			if first {
				return false // protobuf merges the second one into the first
			}
			first = true
			inner, b, ok = part(b)
			ok = ok && r.List[0].read(inner)
		case bytesOf3:
			inner, b, ok = part(b)
			r.List = append(r.List, Request{})
			ok = ok && r.List[len(r.List)-1].read(inner)
		default:
			return false
		}
		if !ok {
			return false
		}
	}
	return true
}
