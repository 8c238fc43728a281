package grpcserver

import (
	"context"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
)

// messageReceiver reads the messages of one call within the limits of its method. It is for one goroutine
// at a time.
type messageReceiver struct {
	codec encoding.CodecV2
	// max is the size in bytes of the largest message.
	max int
	// reservation is the part of RequestLimits.MaxBytes that the latest message takes.
	reservation reservation
}

// receiveOnly reads the message of a unary call. The whole message has messageTimeout to arrive. It returns
// io.EOF when the client sends none.
func (r *messageReceiver) receiveOnly(ctx context.Context, message any) error {
	messages, ok := MessagesOf(ctx)
	if !ok {
		return errTransport
	}
	waiting, cancel := context.WithTimeout(ctx, messageTimeout)
	defer cancel()
	size, err := readUntil(waiting, messages.Next, nil)
	if err != nil {
		return readFailure(ctx, err)
	}
	return r.receive(ctx, waiting, &messages, size, message)
}

// receiveNext reads the next message of a stream. It waits for the message as long as the stream is open;
// once the length is there, the content has messageTimeout to arrive.
func (r *messageReceiver) receiveNext(ctx context.Context, message any) error {
	r.reservation.release()
	messages, ok := MessagesOf(ctx)
	if !ok {
		return errTransport
	}
	size, err := messages.Next()
	if err != nil {
		return err
	}
	waiting, cancel := context.WithTimeout(ctx, messageTimeout)
	defer cancel()
	return r.receive(ctx, waiting, &messages, size, message)
}

// receive reads the content of a message whose length is known. The context waiting ends at the message's
// deadline, ctx with the call.
func (r *messageReceiver) receive(ctx, waiting context.Context, from *Messages, size int, message any) error {
	if size > r.max {
		return errTooLarge(size, r.max)
	}
	if size > smallMessage {
		if r.reservation.budget.Acquire(waiting, int64(size)) != nil {
			return readFailure(ctx, errTooManyBytes)
		}
	}
	data, err := r.read(waiting, from, size)
	if err != nil {
		return readFailure(ctx, err)
	}
	defer data.Free()
	if size > smallMessage {
		r.reservation.set(int64(size))
	}
	return decode(r.codec, data, message)
}

// read reads the content of a message whose bytes were acquired. When it fails it returns the bytes to the
// budget, but not before the read itself has ended.
func (r *messageReceiver) read(waiting context.Context, from *Messages, size int) (mem.BufferSlice, error) {
	release := func() {
		if size > smallMessage {
			r.reservation.budget.Release(int64(size))
		}
	}
	return readUntil(waiting, func() (mem.BufferSlice, error) {
		data, err := from.Read(size)
		if err != nil {
			release()
		}
		return data, err
	}, func(late mem.BufferSlice) {
		late.Free()
		release()
	})
}

// decode decodes a message; one that cannot be decoded is INVALID_ARGUMENT.
func decode(codec encoding.CodecV2, data mem.BufferSlice, message any) error {
	if codec.Unmarshal(data, message) != nil {
		return undecodable(data.Materialize(), message)
	}
	return nil
}
