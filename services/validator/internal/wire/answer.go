package wire

import (
	"time"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/countersign/countersign/pkg/validator"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// Encoded is the encoded answer to a call. It must not be used after it was sent.
type Encoded struct {
	buffers [1]mem.Buffer
	buffer  mem.SliceBuffer
	bytes   [usualSize]byte
}

// usualSize has room for every answer whose token id is not very long, in bytes.
const usualSize = 96

// Encode returns an AuthorizeResponse as it is sent. It allocates once: the bytes must last until they are
// sent.
func Encode(a *validator.Answer) *Encoded {
	e := new(Encoded)
	e.buffer = appendAnswer(e.bytes[:0], a)
	e.buffers[0] = &e.buffer
	return e
}

// appendAnswer appends an AuthorizeResponse, its fields in the order of their numbers, as Go's protobuf
// does. The token's id must be valid UTF-8.
func appendAnswer(b []byte, a *validator.Answer) []byte {
	decision := countersignv1.Decision_DECISION_DENY
	if a.Allow {
		decision = countersignv1.Decision_DECISION_ALLOW
	}
	b = append(b, numberOf1, byte(decision))
	if a.Reason != 0 {
		b = appendNumber(append(b, numberOf2), uint64(a.Reason))
	}
	if a.Enforced {
		b = append(b, numberOf3, 1)
	}
	if a.TokenID != "" {
		b = append(appendNumber(append(b, bytesOf4), uint64(len(a.TokenID))), a.TokenID...)
	}
	if a.Revision != 0 {
		b = appendNumber(append(b, numberOf5), a.Revision)
	}
	b = append(b, bytesOf6, 0)
	age := len(b)
	if seconds := int64(a.DataAge / time.Second); seconds != 0 {
		b = appendNumber(append(b, numberOf1), uint64(seconds))
	}
	if nanos := int64(a.DataAge % time.Second); nanos != 0 {
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

// Answers builds an AuthorizeStreamResponse, one answer after the other. The zero value is empty. It is not
// safe for concurrent use.
type Answers struct {
	bytes []byte
	count int
}

// Clear empties the message and keeps its memory.
func (a *Answers) Clear() { a.bytes, a.count = a.bytes[:0], 0 }

// Empty tells whether the message has no answer. An empty message must not be sent.
func (a *Answers) Empty() bool { return a.count == 0 }

// Add adds the answer to the request with a sequence number.
func (a *Answers) Add(sequence uint64, answer *validator.Answer) {
	a.add(sequence, bytesOf2, func(b []byte) []byte { return appendAnswer(b, answer) })
}

// Fail adds the error of the request with a sequence number.
func (a *Answers) Fail(sequence uint64, failed *countersignv1.AuthorizeError) {
	a.add(sequence, bytesOf3, func(b []byte) []byte {
		encoded, err := proto.MarshalOptions{}.MarshalAppend(b, failed)
		if err != nil { // the message is not UTF-8: send the code alone
			encoded, _ = proto.MarshalOptions{}.MarshalAppend(b, &countersignv1.AuthorizeError{Code: failed.GetCode()})
		}
		return encoded
	})
}

// add adds a result, which write appends, in the field of a tag. The first result goes into the message
// itself, the others into its field more.
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

// appendSized appends a length and what write appends. It reserves one byte for the length, and moves the
// rest when the length needs more.
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

// encoded returns a copy, because the bytes must last while the next message is built.
func (a *Answers) encoded() mem.BufferSlice {
	return mem.BufferSlice{mem.Copy(a.bytes, mem.DefaultBufferPool())}
}
