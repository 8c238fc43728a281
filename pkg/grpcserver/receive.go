package grpcserver

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/countersign/countersign/pkg/apierr"
)

// messageTimeout is how long a call may take to send its message once its header is there. The largest one, of 5 MiB, takes
// that long at 4 Mbit/s.
const messageTimeout = 10 * time.Second

// Requests bounds what the unary calls of a server's services take. The zero value bounds nothing, and costs nothing.
//
// With it, interceptors run before a call's message is read: one that refuses the call by its header, such as a guard, keeps
// its message out of memory. They are given a nil request.
type Requests struct {
	// MaxCalls is how many calls that the interceptors let through may be in flight, over all connections; more are
	// RESOURCE_EXHAUSTED.
	MaxCalls int
	// MaxBytes is how many bytes of messages those calls may hold, encoded, over all connections. A call whose message has not
	// come counts with Config.MaxReceive, so this must not be less; one that finds too little left waits for messageTimeout and
	// is then RESOURCE_EXHAUSTED.
	MaxBytes int64
}

var (
	errTooManyCalls = apierr.Exhausted(apierr.Overloaded, "this server has as many calls in flight as it may have; try again later")
	errTooManyBytes = apierr.Exhausted(apierr.Overloaded, "this server holds as many bytes of requests as it may hold; try again later")
	errNoMessage    = apierr.Exhausted("MESSAGE_TIMEOUT", "the call's message did not arrive within %d s of its header", int(messageTimeout.Seconds()))
)

// requests enforces Requests. It is safe for concurrent use.
type requests struct {
	calls *semaphore.Weighted
	bytes *semaphore.Weighted
	// most is Config.MaxReceive.
	most int64
}

func newRequests(config Config) *requests {
	if config.Requests == (Requests{}) {
		return nil
	}
	return &requests{
		calls: semaphore.NewWeighted(int64(config.Requests.MaxCalls)),
		bytes: semaphore.NewWeighted(config.Requests.MaxBytes),
		most:  int64(config.MaxReceive),
	}
}

// describe returns a description whose unary methods run the interceptors, then read the message within the bounds, and then
// do what the given one does. A message that cannot be read is INVALID_ARGUMENT, in streams too. grpc-go calls a method with
// nothing read, and generated code reads before it intercepts.
func (r *requests) describe(service *grpc.ServiceDesc) *grpc.ServiceDesc {
	if r == nil {
		return service
	}
	bounded := *service
	bounded.Methods, bounded.Streams = slices.Clone(service.Methods), slices.Clone(service.Streams)
	for i := range bounded.Streams {
		handle := bounded.Streams[i].Handler
		bounded.Streams[i].Handler = func(service any, stream grpc.ServerStream) error {
			return handle(service, readingStream{stream})
		}
	}
	for i := range bounded.Methods {
		method := &bounded.Methods[i]
		handle, name := method.Handler, fmt.Sprintf("/%s/%s", service.ServiceName, method.MethodName)
		method.Handler = func(service any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
			answer := func(ctx context.Context, _ any) (any, error) {
				return r.answer(ctx, decode, func(decode func(any) error) (any, error) { return handle(service, ctx, decode, nil) })
			}
			if intercept == nil {
				return answer(ctx, nil)
			}
			return intercept(ctx, nil, &grpc.UnaryServerInfo{Server: service, FullMethod: name}, answer)
		}
	}
	return &bounded
}

// answer has a call answered that was let through. What its message takes is given back when it is answered.
func (r *requests) answer(ctx context.Context, decode func(any) error, handle func(decode func(any) error) (any, error)) (any, error) {
	if !r.calls.TryAcquire(1) {
		return nil, errTooManyCalls
	}
	defer r.calls.Release(1)
	var holds int64
	defer func() { r.bytes.Release(holds) }()
	return handle(func(message any) error {
		waiting, cancel := context.WithTimeout(ctx, messageTimeout)
		defer cancel()
		if r.bytes.Acquire(waiting, r.most) != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return errTooManyBytes
		}
		received := readApart(func(message any) error { return read(decode, message) }, message)
		select {
		case err := <-received:
			if sized, ok := message.(proto.Message); ok && err == nil {
				holds = min(int64(proto.Size(sized)), r.most)
			}
			r.bytes.Release(r.most - holds)
			return err
		case <-waiting.Done():
			go func() {
				<-received //nolint:errcheck // the call is answered already; nobody is left to tell
				r.bytes.Release(r.most)
			}()
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return errNoMessage
		}
	})
}

// readApart reads a message on another goroutine, because nothing ends the reading but the end of the call: it returns once the
// handler has. A panic is an error, since nobody would catch it there.
func readApart(decode func(any) error, message any) <-chan error {
	received := make(chan error, 1)
	go func() {
		defer func() {
			if value := recover(); value != nil {
				received <- fmt.Errorf("panic while a message was read: %v\n%s", value, debug.Stack())
			}
		}()
		received <- decode(message)
	}()
	return received
}
