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

// Messages reads the messages of a call, each in two steps: its length, then the message. In between, a
// server decides what the message may take; grpc-go reads both at once. It is for one goroutine.
type Messages struct {
	from messageReader
	// prefix stands before each message: a flag for compression, and the length (PROTOCOL-HTTP2.md of gRPC).
	prefix [5]byte
}

// messageReader is what grpc-go's stream of the transport has besides grpc.ServerTransportStream. It is no
// part of grpc-go's promises, so that another version may lack it: tests fail then.
type messageReader interface {
	ReadMessageHeader(header []byte) error
	Read(n int) (mem.BufferSlice, error)
}

// MessagesOf returns the messages of the call whose context is given; false when the call is not one of
// grpc-go's own transport.
func MessagesOf(ctx context.Context) (Messages, bool) {
	from, ok := grpc.ServerTransportStreamFromContext(ctx).(messageReader)
	return Messages{from: from}, ok
}

// Next waits for the next message, and returns its length in bytes. io.EOF says that none will come.
func (m *Messages) Next() (size int, err error) {
	if err := m.from.ReadMessageHeader(m.prefix[:]); err != nil {
		return 0, readError(err)
	}
	if m.prefix[0] != 0 {
		return 0, status.Error(codes.Unimplemented, "messages to this service must not be compressed")
	}
	return int(binary.BigEndian.Uint32(m.prefix[1:])), nil
}

// Read returns the message whose length Next has returned. The caller frees it.
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

// readError returns what a handler is told: io.EOF is the end of a stream, as for RecvMsg.
func readError(err error) error {
	if _, told := status.FromError(err); told || errors.Is(err, io.EOF) {
		return err
	}
	return status.Error(codes.Internal, "the message was cut off")
}
