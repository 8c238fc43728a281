package identity

import (
	"context"
	"strings"

	"google.golang.org/grpc"

	"github.com/countersign/countersign/pkg/apierr"
)

// Guard checks the calls to one service: the caller's role must reach the method. It lets calls to other
// services, such as health, pass unchecked. A method needs Admin unless its name says that it reads.
func Guard(source Source, service string) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		ctx, err := guard(ctx, source, info.FullMethod, map[string]reach{service: manages})
		if err != nil {
			return nil, err
		}
		return handler(ctx, request)
	}
}

// GuardStreams does the same for streams. The streams of the fleet's service need Validator; the streams of
// the management service need the same roles as its other methods.
func GuardStreams(source Source, management, fleet string) grpc.StreamServerInterceptor {
	return func(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		allowed := func() (context.Context, error) {
			return guard(stream.Context(), source, info.FullMethod, map[string]reach{management: manages, fleet: reports})
		}
		ctx, err := allowed()
		if err != nil {
			return err
		}
		return handler(server, &identified{stream, ctx, allowed})
	}
}

// identified is a stream of a known caller. A stream may outlive its caller's key, so each message is checked
// like a new stream.
type identified struct {
	grpc.ServerStream
	ctx     context.Context
	allowed func() (context.Context, error)
}

// Context returns the context that holds the caller.
func (s *identified) Context() context.Context { return s.ctx }

// RecvMsg receives a message, and fails when the caller may no longer send one.
func (s *identified) RecvMsg(message any) error {
	if err := s.ServerStream.RecvMsg(message); err != nil {
		return err
	}
	_, err := s.allowed()
	return err
}

// SendMsg sends a message, and fails when the caller may no longer get one.
func (s *identified) SendMsg(message any) error {
	if _, err := s.allowed(); err != nil {
		return err
	}
	return s.ServerStream.SendMsg(message)
}

// reach tells whether a role reaches a method of a service.
type reach func(role Role, method string) bool

func manages(role Role, method string) bool {
	return role == Admin || role == Viewer && reads(method)
}

func reports(role Role, _ string) bool { return role == Validator }

// guard returns the context of a call with its caller in it, or the error that the caller gets.
func guard(ctx context.Context, source Source, fullMethod string, services map[string]reach) (context.Context, error) {
	service, method, _ := strings.Cut(strings.TrimPrefix(fullMethod, "/"), "/")
	reaches, ours := services[service]
	if !ours {
		return ctx, nil
	}
	caller, err := identify(ctx, source)
	if err != nil {
		return nil, err
	}
	if caller.Role != anything && !reaches(caller.Role, method) {
		return nil, apierr.PermissionDenied("%s has role %s, which does not reach %s", caller.Name, caller.Role, method)
	}
	return context.WithValue(ctx, contextKey{}, caller), nil
}

func reads(method string) bool {
	for _, verb := range []string{"Get", "List", "Wait"} {
		if strings.HasPrefix(method, verb) {
			return true
		}
	}
	return false
}
