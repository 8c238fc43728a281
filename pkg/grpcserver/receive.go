package grpcserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/pkg/apierr"
)

// messageTimeout is how long a call may take to send its message once its header is there, and a stream to
// send one whose length is there. The largest one, of 5 MiB, takes that long at 4 Mbit/s.
const messageTimeout = 10 * time.Second

// Requests bounds what the calls of a server's services take. The zero value bounds nothing, and costs
// nothing.
//
// With it, interceptors run before a call's message is read: one that refuses the call by its header, such
// as a guard, keeps its message out of memory. Those of unary calls are given a nil request.
type Requests struct {
	// MaxCalls is how many unary calls whose message has come may be in flight, over all connections; more
	// are RESOURCE_EXHAUSTED.
	MaxCalls int
	// Large names the methods whose messages may have Config.MaxReceive bytes, such as
	// /package.Service/Method. Those of all others may have 64 KiB.
	Large []string
	// MaxBytes is how many bytes messages of more than 64 KiB may take, encoded, over all connections. It
	// must not be less than Config.MaxReceive. A message that finds too little left waits for
	// messageTimeout and is then RESOURCE_EXHAUSTED. Smaller ones do not count, so that they never wait:
	// HTTP/2 lets every stream send as much before anybody reads.
	MaxBytes int64
}

func (r Requests) bounded() bool { return r.MaxCalls != 0 || r.MaxBytes != 0 }

var (
	errTooManyCalls = apierr.Exhausted(apierr.Overloaded, "this server has as many calls in flight as it may have; try again later")
	errTooManyBytes = apierr.Exhausted(apierr.Overloaded, "this server holds as many bytes of large requests as it may hold; try again later")
	errNoMessage    = apierr.Exhausted("MESSAGE_TIMEOUT", "the call's message did not arrive within %d s of its header", int(messageTimeout.Seconds()))
	errNothingSent  = apierr.Invalid("message", "none was sent")
	errOfTransport  = status.Error(codes.Internal, "this server reads messages from a transport of grpc-go only")
)

func tooLarge(size, most int) error {
	return apierr.Exhausted("MESSAGE_TOO_LARGE", "a message of %d bytes: want at most %d", size, most)
}

// requests enforces Requests. It is safe for concurrent use.
type requests struct {
	calls *semaphore.Weighted
	bytes *semaphore.Weighted
	// most is Config.MaxReceive, for the methods of large.
	most  int
	large []string
	codec encoding.CodecV2
}

func newRequests(config Config) *requests {
	if !config.Requests.bounded() {
		return nil
	}
	r := &requests{
		calls: semaphore.NewWeighted(int64(config.Requests.MaxCalls)),
		bytes: semaphore.NewWeighted(config.Requests.MaxBytes),
		most:  config.MaxReceive, large: config.Requests.Large,
		codec: config.Codec,
	}
	if r.codec == nil {
		r.codec = encoding.GetCodecV2("proto")
	}
	return r
}

// mostOf returns how many bytes a message of a method may have.
func (r *requests) mostOf(method string) int {
	if slices.Contains(r.large, method) {
		return r.most
	}
	return min(r.most, streamWindow)
}

// describe returns a description whose methods run the interceptors, then read messages within the bounds,
// and then do what the given one does. A message that cannot be read is INVALID_ARGUMENT. grpc-go calls a
// method with nothing read, and generated code reads before it intercepts.
func (r *requests) describe(service *grpc.ServiceDesc) *grpc.ServiceDesc {
	if r == nil {
		return service
	}
	bounded := *service
	bounded.Methods, bounded.Streams = slices.Clone(service.Methods), slices.Clone(service.Streams)
	for i := range bounded.Streams {
		method := &bounded.Streams[i]
		handle, most := method.Handler, r.mostOf(fmt.Sprintf("/%s/%s", service.ServiceName, method.StreamName))
		method.Handler = func(service any, stream grpc.ServerStream) error {
			s := &boundedStream{ServerStream: stream, requests: r, most: most, holds: holding{bytes: r.bytes}}
			defer s.holds.end()
			return handle(service, s)
		}
	}
	for i := range bounded.Methods {
		method := &bounded.Methods[i]
		handle, name := method.Handler, fmt.Sprintf("/%s/%s", service.ServiceName, method.MethodName)
		most := r.mostOf(name)
		method.Handler = func(service any, ctx context.Context, _ func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
			answer := func(ctx context.Context, _ any) (any, error) {
				return r.answer(ctx, most, func(decode func(any) error) (any, error) { return handle(service, ctx, decode, nil) })
			}
			if intercept == nil {
				return answer(ctx, nil)
			}
			return intercept(ctx, nil, &grpc.UnaryServerInfo{Server: service, FullMethod: name}, answer)
		}
	}
	return &bounded
}

// answer has a call answered that was let through. It takes a slot once its message is there: a caller that
// sends headers only holds none. What its message takes is given back when it is answered.
func (r *requests) answer(ctx context.Context, most int, handle func(decode func(any) error) (any, error)) (any, error) {
	holds := &holding{bytes: r.bytes}
	defer holds.end()
	admitted := false
	defer func() {
		if admitted {
			r.calls.Release(1)
		}
	}()
	return handle(func(message any) error {
		if err := r.receiveOne(ctx, holds, most, message); err != nil {
			return err
		}
		if admitted = r.calls.TryAcquire(1); !admitted {
			return errTooManyCalls
		}
		return nil
	})
}

// receiveOne reads the message of a unary call.
func (r *requests) receiveOne(ctx context.Context, holds *holding, most int, message any) error {
	messages, ok := MessagesOf(ctx)
	if !ok {
		return errOfTransport
	}
	waiting, cancel := context.WithTimeout(ctx, messageTimeout)
	defer cancel()
	size, err := apart(waiting, messages.Next, nil)
	if errors.Is(err, io.EOF) {
		return errNothingSent
	}
	if err != nil {
		return awaited(ctx, err)
	}
	return r.receive(ctx, waiting, &messages, size, most, holds, message)
}

// receive reads a message whose length has come.
func (r *requests) receive(ctx, waiting context.Context, from *Messages, size, most int, holds *holding, message any) error {
	if size > most {
		return tooLarge(size, most)
	}
	if size > streamWindow {
		if r.bytes.Acquire(waiting, int64(size)) != nil {
			return awaited(ctx, errTooManyBytes)
		}
	}
	data, err := r.read(waiting, from, size)
	if err != nil {
		return awaited(ctx, err)
	}
	defer data.Free()
	if size > streamWindow {
		holds.keep(int64(size))
	}
	if r.codec.Unmarshal(data, message) != nil {
		return refuse(data.Materialize(), message)
	}
	return nil
}

// read returns a message. When it fails it gives back what was taken for the message, but only once reading
// has ended.
func (r *requests) read(waiting context.Context, from *Messages, size int) (mem.BufferSlice, error) {
	giveBack := func() {
		if size > streamWindow {
			r.bytes.Release(int64(size))
		}
	}
	return apart(waiting, func() (mem.BufferSlice, error) {
		data, err := from.Read(size)
		if err != nil {
			giveBack()
		}
		return data, err
	}, func(late mem.BufferSlice) {
		late.Free()
		giveBack()
	})
}
