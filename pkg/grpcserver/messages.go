package grpcserver

import (
	"context"
	"encoding/binary"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
)

// Messages reads the messages of a call in two steps: first the length of a message, then its content. A
// server can decide by the length whether it reads the message; grpc-go's RecvMsg reads both at once.
// It must be used by one goroutine at a time, and not together with RecvMsg.
type Messages struct {
	from messageReader
	// prefix is a message's header: one byte that says whether it is compressed, and four bytes of length.
	// Source: Length-Prefixed-Message in gRPC's PROTOCOL-HTTP2.md.
	prefix [5]byte
}

// messageReader is what grpc-go's server stream offers besides grpc.ServerTransportStream. grpc-go does not
// promise these methods. When an upgrade removes them, the tests of this package fail.
type messageReader interface {
	ReadMessageHeader(header []byte) error
	Read(n int) (mem.BufferSlice, error)
}

// MessagesOf returns the messages of the call with the given context. It returns false when the call does
// not use grpc-go's HTTP/2 transport.
func MessagesOf(ctx context.Context) (Messages, bool) {
	from, ok := grpc.ServerTransportStreamFromContext(ctx).(messageReader)
	return Messages{from: from}, ok
}

// Next waits for the next message and returns its length in bytes. It returns io.EOF when the client has
// closed its side, and a gRPC status (Unimplemented for a compressed message) for every other failure. It
// ends when the call does.
func (m *Messages) Next() (size int, err error) {
	if err := m.from.ReadMessageHeader(m.prefix[:]); err != nil {
		return 0, readError(err)
	}
	if m.prefix[0] != 0 {
		return 0, status.Error(codes.Unimplemented, "messages to this service must not be compressed")
	}
	return int(binary.BigEndian.Uint32(m.prefix[1:])), nil
}

// Read waits for the content of the message whose length Next has returned. The caller frees it. The error
// is a gRPC status.
func (m *Messages) Read(size int) (mem.BufferSlice, error) {
	data, err := m.from.Read(size)
	if errors.Is(err, io.EOF) && size > 0 {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, readError(err)
	}
	return data, nil
}

// readError returns what a handler gets for an error of the transport: io.EOF at the end of a stream, as
// from RecvMsg, else a status.
func readError(err error) error {
	if _, isStatus := status.FromError(err); isStatus || errors.Is(err, io.EOF) {
		return err
	}
	return status.Error(codes.Internal, "the message was cut off")
}
