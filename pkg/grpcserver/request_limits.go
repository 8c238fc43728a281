package grpcserver

import (
	"context"
	"errors"
	"io"
	"slices"

	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/pkg/apierr"
)

// smallMessage is the size in bytes up to which a message does not count against RequestLimits.MaxBytes.
// HTTP/2 lets every stream send that much before the server reads anything, so counting it bounds nothing.
const smallMessage = streamWindow

// RequestLimits bounds the calls of all services registered on a server, and the memory of their messages.
// The zero value sets no bound and costs nothing.
//
// With limits, interceptors run before the server reads a call's message. When an interceptor rejects a call
// by its header, as an authentication guard does, the message never gets into memory. Interceptors of unary
// calls get a nil request.
type RequestLimits struct {
	// MaxCalls is the largest number of unary calls in flight, over all connections. A call counts once its
	// message has arrived. A call above the bound fails with RESOURCE_EXHAUSTED.
	MaxCalls int
	// Large are the full names of the methods, such as /package.Service/Method, whose messages may have
	// Config.MaxReceive bytes. Messages of other methods may have 64 KiB.
	Large []string
	// MaxBytes is the largest number of encoded bytes of the messages in memory that have more than 64 KiB
	// each, over all connections. It must be at least Config.MaxReceive. A message for which too few bytes
	// are left waits up to 10 s, then its call fails with RESOURCE_EXHAUSTED. Smaller messages neither
	// count nor wait.
	MaxBytes int64
}

func (r RequestLimits) enabled() bool { return r.MaxCalls != 0 || r.MaxBytes != 0 }

var (
	errTooManyCalls = apierr.Exhausted(apierr.Overloaded, "the server has too many calls in flight; try again later")
	errTooManyBytes = apierr.Exhausted(
		apierr.Overloaded, "the server holds too many bytes of large requests; try again later")
	errTransport = status.Error(codes.Internal, "the server reads messages only from grpc-go's HTTP/2 transport")
)

// requestLimiter enforces RequestLimits. It is safe for concurrent use.
type requestLimiter struct {
	calls *semaphore.Weighted // one slot for each unary call in flight
	bytes *semaphore.Weighted // the budget of RequestLimits.MaxBytes
	large []string
	// maxReceive is the size in bytes of the largest message of a large method.
	maxReceive int
	codec      encoding.CodecV2
}

// newRequestLimiter returns nil when the configuration sets no limits.
func newRequestLimiter(config Config) *requestLimiter {
	limits := config.RequestLimits
	if !limits.enabled() {
		return nil
	}
	l := &requestLimiter{
		calls: semaphore.NewWeighted(int64(limits.MaxCalls)),
		bytes: semaphore.NewWeighted(limits.MaxBytes),
		large: limits.Large, maxReceive: config.MaxReceive,
		codec: config.Codec,
	}
	if l.codec == nil {
		l.codec = encoding.GetCodecV2("proto")
	}
	return l
}

// maxReceiveOf returns the size in bytes of the largest message of a method.
func (l *requestLimiter) maxReceiveOf(method string) int {
	if slices.Contains(l.large, method) {
		return l.maxReceive
	}
	return min(l.maxReceive, smallMessage)
}

// receiver returns a receiver for one call. The caller closes its reservation.
func (l *requestLimiter) receiver(maxReceive int) *messageReceiver {
	return &messageReceiver{codec: l.codec, max: maxReceive, reservation: reservation{budget: l.bytes}}
}

// limit returns a description of the service whose methods first run the interceptors, then read their
// message within the limits, then run the given handler. Without this wrapper, generated
// code reads the message before it runs the interceptors.
func (l *requestLimiter) limit(service *grpc.ServiceDesc) *grpc.ServiceDesc {
	if l == nil {
		return service
	}
	return wrapService(service, l.limitUnary, l.limitStream)
}

func (l *requestLimiter) limitUnary(method string, handler grpc.MethodHandler) grpc.MethodHandler {
	maxReceive := l.maxReceiveOf(method)
	return func(service any, ctx context.Context, _ func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
		answer := func(ctx context.Context, _ any) (any, error) {
			return l.answer(ctx, l.receiver(maxReceive), func(decode func(any) error) (any, error) {
				return handler(service, ctx, decode, nil)
			})
		}
		if intercept == nil {
			return answer(ctx, nil)
		}
		return intercept(ctx, nil, &grpc.UnaryServerInfo{Server: service, FullMethod: method}, answer)
	}
}

// answer runs the handler of a unary call that the interceptors let through. The call takes its slot when its
// message has arrived, so that a client that sends only headers holds no slots.
func (l *requestLimiter) answer(
	ctx context.Context, receiver *messageReceiver, handle func(decode func(any) error) (any, error),
) (any, error) {
	defer receiver.reservation.close()
	admitted := false
	defer func() {
		if admitted {
			l.calls.Release(1)
		}
	}()
	return handle(func(message any) error {
		err := receiver.receiveOnly(ctx, message)
		if errors.Is(err, io.EOF) {
			return errNoMessage
		}
		if err != nil {
			return err
		}
		if admitted = l.calls.TryAcquire(1); !admitted {
			return errTooManyCalls
		}
		return nil
	})
}

func (l *requestLimiter) limitStream(method string, description *grpc.StreamDesc) grpc.StreamHandler {
	maxReceive := l.maxReceiveOf(method)
	return func(service any, stream grpc.ServerStream) error {
		receiver := l.receiver(maxReceive)
		defer receiver.reservation.close()
		return description.Handler(service, limitedStream{stream, receiver})
	}
}

// limitedStream is a stream whose messages count against RequestLimits.MaxBytes, each until the next one is
// read.
type limitedStream struct {
	grpc.ServerStream
	receiver *messageReceiver
}

// RecvMsg implements grpc.ServerStream.
func (s limitedStream) RecvMsg(message any) error {
	return s.receiver.receiveNext(s.Context(), message)
}
