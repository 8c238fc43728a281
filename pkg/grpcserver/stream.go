package grpcserver

import (
	"context"

	"google.golang.org/grpc"
)

// boundedStream is a stream whose messages count among the bytes that requests hold: each until the next is
// read.
type boundedStream struct {
	grpc.ServerStream
	requests *requests
	// most is how many bytes a message may have.
	most  int
	holds holding
}

// RecvMsg implements grpc.ServerStream. It waits for a message for as long as the stream is open; once its
// length is there, the rest has messageTimeout to arrive.
func (s *boundedStream) RecvMsg(message any) error {
	s.holds.drop()
	ctx := s.Context()
	messages, ok := MessagesOf(ctx)
	if !ok {
		return errOfTransport
	}
	size, err := messages.Next()
	if err != nil {
		return err
	}
	waiting, cancel := context.WithTimeout(ctx, messageTimeout)
	defer cancel()
	return s.requests.receive(ctx, waiting, &messages, size, s.most, &s.holds, message)
}
