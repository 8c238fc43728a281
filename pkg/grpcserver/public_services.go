package grpcserver

import (
	"context"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"

	"github.com/countersign/countersign/pkg/apierr"
)

const (
	// publicMaxReceive is the size in bytes of the largest message to a public service. Such messages hold
	// no more than the name of a service or of a symbol. Config.MaxReceive does not apply, because it is
	// meant for callers that have been authenticated.
	publicMaxReceive = 4 << 10

	// maxPublicCalls is how many unary calls to public services one connection may have in flight, and how
	// many streams beside them. client.Dial keeps one health watch on each connection, and grpcurl one
	// stream for reflection. There is no bound over all connections but Config.MaxConnections, so that no
	// client can take the calls of another.
	maxPublicCalls = 4
)

var (
	errTooManyPublic = apierr.Exhausted(apierr.Overloaded,
		"this connection has %d health checks, watches or reflection calls in flight; want at most %d",
		maxPublicCalls, maxPublicCalls)
	errOneMessage = apierr.Invalid("message", "the method takes one; more was sent")
)

// publicServices registers the public services, health and reflection, with limits of their own: anyone who
// can connect may call them, without authentication. It implements reflection.GRPCServer and is safe for
// concurrent use.
type publicServices struct {
	*grpc.Server
	// calls and streams have separate slots, so that a connection with many watches can still check health.
	calls, streams *perConnectionLimiter
	// goroutines is how many goroutines the calls in flight hold.
	goroutines *atomic.Int64
}

func newPublicServices(server *grpc.Server, goroutines *atomic.Int64) publicServices {
	return publicServices{
		Server: server, goroutines: goroutines,
		calls: newPerConnectionLimiter(maxPublicCalls), streams: newPerConnectionLimiter(maxPublicCalls),
	}
}

// RegisterService implements grpc.ServiceRegistrar.
func (p publicServices) RegisterService(service *grpc.ServiceDesc, implementation any) {
	p.Server.RegisterService(wrapService(service, p.limitUnary, p.limitStream), implementation)
}

func (p publicServices) limitUnary(_ string, handler grpc.MethodHandler) grpc.MethodHandler {
	return func(service any, ctx context.Context, _ func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
		release, ok := p.calls.acquire(ctx)
		if !ok {
			return nil, errTooManyPublic
		}
		defer release()
		defer p.countGoroutine()()
		return handler(service, ctx, func(message any) error { return p.receiveFirst(ctx, message) }, intercept)
	}
}

func (p publicServices) limitStream(_ string, description *grpc.StreamDesc) grpc.StreamHandler {
	return func(service any, stream grpc.ServerStream) error {
		release, ok := p.streams.acquire(stream.Context())
		if !ok {
			return errTooManyPublic
		}
		defer release()
		defer p.countGoroutine()()
		ctx, end := context.WithCancelCause(stream.Context())
		defer end(nil)
		err := description.Handler(service, &publicStream{
			ServerStream: stream, services: p, ctx: ctx, end: end, oneMessage: !description.ClientStreams,
		})
		if context.Cause(ctx) == errOneMessage { //nolint:errorlint // the very error that publicStream ends with
			return errOneMessage
		}
		return err
	}
}

// countGoroutine counts the caller's goroutine until the returned function is called.
func (p publicServices) countGoroutine() (done func()) {
	p.goroutines.Add(1)
	return func() { p.goroutines.Add(-1) }
}

// publicStream is a stream of a public service.
type publicStream struct {
	grpc.ServerStream
	services publicServices
	ctx      context.Context
	end      context.CancelCauseFunc
	// oneMessage says that the client may send only one message.
	oneMessage bool
	begun      bool
}

// Context returns the context of the stream. It also ends when the client sends more than it may.
func (s *publicStream) Context() context.Context { return s.ctx }

// RecvMsg implements grpc.ServerStream. The first message has messageTimeout to arrive, later ones have no
// deadline.
func (s *publicStream) RecvMsg(message any) error {
	if s.begun {
		return receiveSmall(s.ctx, message)
	}
	s.begun = true
	err := s.services.receiveFirst(s.ctx, message)
	if s.oneMessage && err == nil {
		go s.endOnMore()
	}
	return err
}

// endOnMore ends the stream when its client sends more than one message. The handler would never read more,
// so it would stay in memory for as long as the stream is open.
func (s *publicStream) endOnMore() {
	defer s.services.countGoroutine()()
	rest, ok := MessagesOf(s.ctx)
	if !ok {
		return
	}
	more, err := rest.Read(1)
	if err != nil {
		return // the client has closed its side, or the stream has ended
	}
	more.Free()
	s.end(errOneMessage)
}

// receiveFirst reads a small message within messageTimeout.
func (p publicServices) receiveFirst(ctx context.Context, message any) error {
	waiting, cancel := context.WithTimeout(ctx, messageTimeout)
	defer cancel()
	_, err := readUntil(waiting, func() (none struct{}, err error) {
		defer p.countGoroutine()()
		return none, receiveSmall(ctx, message)
	}, nil)
	return readFailure(ctx, err)
}

// receiveSmall reads a message of at most publicMaxReceive bytes. It does not use RecvMsg, because grpc-go
// knows one largest size for all services of a server.
func receiveSmall(ctx context.Context, message any) error {
	messages, ok := MessagesOf(ctx)
	if !ok {
		return errTransport
	}
	size, err := messages.Next()
	if err != nil {
		return err
	}
	if size > publicMaxReceive {
		return errTooLarge(size, publicMaxReceive)
	}
	data, err := messages.Read(size)
	if err != nil {
		return err
	}
	defer data.Free()
	return decode(encoding.GetCodecV2("proto"), data, message)
}
