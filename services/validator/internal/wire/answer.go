package wire

import (
	"time"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// Response is an AuthorizeResponse.
type Response struct {
	Decision countersignv1.Decision
	Reason   countersignv1.Reason
	Enforced bool
	// TokenID is valid UTF-8.
	TokenID  string
	Revision uint64
	DataAge  time.Duration
}

// Encoded is an answer to a call as it is sent. It must not be used once it was.
type Encoded struct {
	buffers [1]mem.Buffer
	buffer  mem.SliceBuffer
	bytes   [usualSize]byte
}

// usualSize is the most bytes that an answer has unless a token's id is very long.
const usualSize = 96

// Encode returns the response as it is sent. It is one allocation, of what has to stay until it is.
func (r *Response) Encode() *Encoded {
	e := new(Encoded)
	e.buffer = r.append(e.bytes[:0])
	e.buffers[0] = &e.buffer
	return e
}

// append appends the encoding, field by field in the order of their numbers, as Go's protobuf does.
func (r *Response) append(b []byte) []byte {
	if r.Decision != 0 {
		b = appendNumber(append(b, numberOf1), uint64(r.Decision))
	}
	if r.Reason != 0 {
		b = appendNumber(append(b, numberOf2), uint64(r.Reason))
	}
	if r.Enforced {
		b = append(b, numberOf3, 1)
	}
	if r.TokenID != "" {
		b = append(appendNumber(append(b, bytesOf4), uint64(len(r.TokenID))), r.TokenID...)
	}
	if r.Revision != 0 {
		b = appendNumber(append(b, numberOf5), r.Revision)
	}
	b = append(b, bytesOf6, 0)
	age := len(b)
	if seconds := int64(r.DataAge / time.Second); seconds != 0 {
		b = appendNumber(append(b, numberOf1), uint64(seconds))
	}
	if nanos := int64(r.DataAge % time.Second); nanos != 0 {
		b = appendNumber(append(b, numberOf2), uint64(nanos))
	}
	b[age-1] = byte(len(b) - age) // at most 22
	return b
}

func appendNumber(b []byte, n uint64) []byte {
	if n < 0x80 {
		return append(b, byte(n))
	}
	return protowire.AppendVarint(b, n)
}

// Answers is an AuthorizeStreamResponse, which is made of one answer after the other. One is made again and
// again; it is not safe for concurrent use. The zero value is empty.
type Answers struct {
	bytes []byte
	count int
}

// Clear empties the message.
func (a *Answers) Clear() { a.bytes, a.count = a.bytes[:0], 0 }

// Empty tells whether there is no answer in the message, which must then not be sent.
func (a *Answers) Empty() bool { return a.count == 0 }

// Add adds an answer.
func (a *Answers) Add(sequence uint64, r *Response) {
	a.add(sequence, bytesOf2, func(b []byte) []byte { return r.append(b) })
}

// Fail adds why there is none.
func (a *Answers) Fail(sequence uint64, failed *countersignv1.AuthorizeError) {
	a.add(sequence, bytesOf3, func(b []byte) []byte {
		encoded, err := proto.MarshalOptions{}.MarshalAppend(b, failed)
		if err != nil { // a text that is not UTF-8; the code says enough
			encoded, _ = proto.MarshalOptions{}.MarshalAppend(b, &countersignv1.AuthorizeError{Code: failed.GetCode()})
		}
		return encoded
	})
}

// add adds what stands in the field of a tag: the first answer in the message itself, the others in its
// field more.
func (a *Answers) add(sequence uint64, tag byte, write func([]byte) []byte) {
	a.count++
	if a.count == 1 {
		a.bytes = appendResult(a.bytes, sequence, tag, write)
		return
	}
	a.bytes = appendSized(append(a.bytes, bytesOf4), func(b []byte) []byte { return appendResult(b, sequence, tag, write) })
}

func appendResult(b []byte, sequence uint64, tag byte, write func([]byte) []byte) []byte {
	if sequence != 0 {
		b = appendNumber(append(b, numberOf1), sequence)
	}
	return appendSized(append(b, tag), write)
}

// appendSized appends something behind its length, for which there is one byte unless it turns out to need
// more.
func appendSized(b []byte, write func([]byte) []byte) []byte {
	at := len(b)
	b = write(append(b, 0))
	size := len(b) - at - 1
	if size < 0x80 {
		b[at] = byte(size)
		return b
	}
	inner := append([]byte(nil), b[at+1:]...)
	return append(protowire.AppendVarint(b[:at], uint64(size)), inner...)
}

// encoded returns a copy: what is sent has to stay while the next message is made.
func (a *Answers) encoded() mem.BufferSlice {
	return mem.BufferSlice{mem.Copy(a.bytes, mem.DefaultBufferPool())}
}
