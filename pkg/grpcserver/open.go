package grpcserver

import (
	"context"
	"slices"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/countersign/countersign/pkg/apierr"
)

const (
	// openMaxReceive is the size in bytes of the largest message to a service that is open to anyone: the
	// name of a service or of a symbol. Config.MaxReceive is for callers that were let through.
	openMaxReceive = 4 << 10

	// maxOpenCalls is how many unary calls to such services one connection may have in flight, and how many
	// streams beside them. client.Dial keeps one watch open on each connection, and grpcurl one stream for
	// reflection. The bound of a connection is the only one, so that no client takes what another needs:
	// Config.MaxConnections bounds the total.
	maxOpenCalls = 4
)

var errTooManyOpen = apierr.Exhausted(apierr.Overloaded, "this connection has %d health checks, watches or reflections open already, and may have no more", maxOpenCalls)

var errOneMessage = apierr.Invalid("message", "the method takes one; more was sent")

// openServices registers the services that anyone may call, health and reflection, with bounds of their
// own. It implements reflection.GRPCServer.
type openServices struct {
	*grpc.Server
	// calls and streams are apart, so that a connection with watches can still ask.
	calls, streams *perConnection
	// goroutines is how many goroutines such calls hold. Anyone may keep calls open for long, so what
	// judges load by the number of goroutines leaves these out.
	goroutines *atomic.Int64
}

func newOpenServices(server *grpc.Server, goroutines *atomic.Int64) openServices {
	return openServices{server, newPerConnection(maxOpenCalls), newPerConnection(maxOpenCalls), goroutines}
}

// RegisterService implements grpc.ServiceRegistrar.
func (o openServices) RegisterService(service *grpc.ServiceDesc, implementation any) {
	bounded := *service
	bounded.Methods, bounded.Streams = slices.Clone(service.Methods), slices.Clone(service.Streams)
	for i := range bounded.Methods {
		handle := bounded.Methods[i].Handler
		bounded.Methods[i].Handler = func(service any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
			release, ok := o.calls.take(ctx)
			if !ok {
				return nil, errTooManyOpen
			}
			defer release()
			o.goroutines.Add(1)
			defer o.goroutines.Add(-1)
			return handle(service, ctx, func(message any) error { return o.receiveFirst(ctx, decode, message) }, intercept)
		}
	}
	for i := range bounded.Streams {
		handle, single := bounded.Streams[i].Handler, !bounded.Streams[i].ClientStreams
		bounded.Streams[i].Handler = func(service any, stream grpc.ServerStream) error {
			release, ok := o.streams.take(stream.Context())
			if !ok {
				return errTooManyOpen
			}
			defer release()
			o.goroutines.Add(1)
			defer o.goroutines.Add(-1)
			ctx, end := context.WithCancelCause(stream.Context())
			defer end(nil)
			err := handle(service, &openStream{ServerStream: stream, services: o, ctx: ctx, end: end, single: single})
			if context.Cause(ctx) == errOneMessage { //nolint:errorlint // the very one that openStream ends a stream with
				return errOneMessage
			}
			return err
		}
	}
	o.Server.RegisterService(&bounded, implementation)
}

// openStream is a stream of an open service.
type openStream struct {
	grpc.ServerStream
	services openServices
	ctx      context.Context
	end      context.CancelCauseFunc
	// single says that the client may send one message.
	single bool
	begun  bool
}

// Context returns the context that is done when the stream has to end.
func (s *openStream) Context() context.Context { return s.ctx }

// RecvMsg implements grpc.ServerStream. The first message has messageTimeout to arrive; later ones come
// when they come.
func (s *openStream) RecvMsg(message any) error {
	if s.begun {
		return receiveSmall(s.ctx, s.ServerStream.RecvMsg, message)
	}
	s.begun = true
	err := s.services.receiveFirst(s.ctx, s.ServerStream.RecvMsg, message)
	if s.single && err == nil {
		go s.endOnMore()
	}
	return err
}

// endOnMore ends a stream whose client sends more than one message. Nobody would read it, so that it would
// fill memory for as long as the stream is open.
func (s *openStream) endOnMore() {
	s.services.goroutines.Add(1)
	defer s.services.goroutines.Add(-1)
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
func (o openServices) receiveFirst(ctx context.Context, decode func(any) error, message any) error {
	waiting, cancel := context.WithTimeout(ctx, messageTimeout)
	defer cancel()
	_, err := apart(waiting, func() (none struct{}, err error) {
		o.goroutines.Add(1)
		defer o.goroutines.Add(-1)
		return none, receiveSmall(ctx, decode, message)
	}, nil)
	return awaited(ctx, err)
}

// receiveSmall reads a message of at most openMaxReceive bytes; with decode where the transport does not
// let it. The bound of grpc-go on the size of a message is the same for all services of a server.
func receiveSmall(ctx context.Context, decode func(any) error, message any) error {
	messages, ok := MessagesOf(ctx)
	into, isProto := message.(proto.Message)
	if !ok || !isProto {
		return decode(message)
	}
	size, err := messages.Next()
	if err != nil {
		return err
	}
	if size > openMaxReceive {
		return tooLarge(size, openMaxReceive)
	}
	data, err := messages.Read(size)
	if err != nil {
		return err
	}
	defer data.Free()
	if raw := data.Materialize(); proto.Unmarshal(raw, into) != nil {
		return refuse(raw, into)
	}
	return nil
}
